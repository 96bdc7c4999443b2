//! Laws of writes: what was written comes back, and each has an outcome of its own.

use super::*;
use crate::clock::Moment;

/// No part of a row stands for another.
#[tokio::test]
async fn every_part_of_a_row_comes_back() {
    let registry = registry().await;
    let now = Moment {
        wall_ms: 11,
        up_ms: 12,
    };
    let at = |wall_ms, up_ms| Some(Moment { wall_ms, up_ms });
    let new = NewRow {
        cluster: "c".into(),
        route: "r".into(),
        lookup: Lookup {
            key: "k".into(),
            sent_name: Some("sent".into()),
        },
        owner: Some("ann".into()),
        name: Some("nightly".into()),
        name_hold_ms: 13,
        body_hash: "h".into(),
        key: Some(IdempotencyKey {
            key: "ikey".into(),
            until: Moment {
                wall_ms: 14,
                up_ms: 15,
            },
        }),
        above: Some(16),
        proxy_user: Some("run as".into()),
        name_in_use: false,
        replaces: None,
        seen: 0,
    };
    let identity = Identity {
        id: GatewayId(1),
        cluster: "c".into(),
        route: "r".into(),
        lookup: new.lookup.clone(),
        owner: Some("ann".into()),
        name: Some("nightly".into()),
        adopted: false,
        created: now,
        name_hold_ms: 13,
        body_hash: Some("h".into()),
        above: Some(16),
    };
    let recorded = registry.store.record(new, now).await.expect("is stored");
    let Recorded::New(row) = recorded else {
        panic!("not new: {recorded:?}");
    };
    assert_eq!((&row.identity, row.key_until), (&identity, at(14, 15)));
    assert_eq!(row.known.proxy_user.as_deref(), Some("run as"));
    let flags: [fn(&mut Known) -> &mut bool; 9] = [
        |known| &mut known.complete,
        |known| &mut known.told,
        |known| &mut known.echoed,
        |known| &mut known.presumed,
        |known| &mut known.kill_asked,
        |known| &mut known.may_arrive,
        |known| &mut known.let_go,
        |known| &mut known.arrived,
        |known| &mut known.absent,
    ];
    let mut version = row.version;
    for flag in flags {
        let mut known = Known {
            phase: Phase::Bound {
                upstream_id: "7".into(),
            },
            state: BatchState::Running,
            app_id: Some("application".into()),
            app_info: [("sparkUiUrl".to_owned(), Some("url".to_owned()))].into(),
            log: vec!["line".into()],
            seen_ms: 21,
            ended: at(22, 23),
            resolved: at(24, 25),
            proxy_user: Some("user".into()),
            quiet_ms: 26,
            waited_ms: 27,
            looked_ms: 28,
            ..Known::new()
        };
        *flag(&mut known) = true;
        let wanted = Row {
            identity: identity.clone(),
            known,
            version,
            key_until: None,
        };
        let saved = registry.store.save(vec![wanted.clone()]).await;
        let saved = saved.expect("is stored").remove(0);
        let Saved::Stored(stored) = saved else {
            panic!("not stored: {saved:?}");
        };
        version = stored;
        let read = registry.store.get(GatewayId(1)).await.expect("is read");
        let read = read.expect("is there");
        // What is proven absent lets go of its key.
        let key_until = (!wanted.known.absent).then_some(at(14, 15)).flatten();
        let wanted = Row {
            version,
            key_until,
            ..wanted
        };
        assert_eq!(read, wanted);
    }
}

/// What is stored together has one outcome each: news, a newer version, a broken promise of the
/// store.
#[tokio::test]
async fn what_is_stored_together_fails_alone() {
    let registry = registry().await;
    let mut entries = Vec::new();
    for id in ["0", "1", "2", "3"] {
        let entry = new(&registry, intent(None)).await;
        let running = shown(&entry, id, BatchState::Running);
        registry.bind(&entry, &running).await.expect("is stored");
        entries.push(entry);
    }
    let stored = async |entry: &Entry| {
        let row = registry.store.get(entry.id).await.expect("is read");
        row.expect("is there").known
    };
    let application = |known: &mut Known| known.app_id = Some("application_1".into());
    let (older, broken) = (&entries[1], &entries[2]);
    let mut row = older.row(older.known(), *older.stored.lock().await);
    row.known.state = BatchState::Success;
    row.known.ended = Some(registry.clock().now());
    registry.store.save(vec![row]).await.expect("is stored");
    for entry in &entries {
        entry.change(application);
        registry.save_soon(entry);
    }
    // Two batches under one number.
    broken.change(|known| {
        known.phase = Phase::Bound {
            upstream_id: "0".into(),
        }
    });
    registry.flush().await;
    let dirty: Vec<GatewayId> = lock(&registry.dirty).keys().copied().collect();
    assert_eq!(dirty, [broken.id], "it stays for the next time");
    for entry in [&entries[0], older, &entries[3]] {
        let known = stored(entry).await;
        assert_eq!(known.app_id.as_deref(), Some("application_1"));
    }
    assert_eq!(stored(older).await.state, BatchState::Success);
    broken.change(|known| {
        known.phase = Phase::Bound {
            upstream_id: "2".into(),
        }
    });
    registry.flush().await;
    assert!(registry.is_writable() && lock(&registry.dirty).is_empty());
}
