//! The laws of every store, as tests that a store passes or not: SQLite; and PostgreSQL where
//! `LIVY_GATEWAY_TEST_POSTGRES` names a server (`tests/with-postgres.sh`).

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{BatchState, Lookup, Observed};

use super::entry::tests::seen;
use super::memory::lock;
use super::*;

mod pages;
mod writes;

async fn registry() -> Registry {
    #[cfg(feature = "postgres")]
    let store = super::postgres::tests::database()
        .await
        .map(|database| database.0);
    #[cfg(not(feature = "postgres"))]
    let store = None;
    let store: Option<Arc<dyn Store>> = store;
    let in_memory = || Arc::new(SqliteStore::in_memory().expect("memory")) as Arc<dyn Store>;
    Registry::open(store.unwrap_or_else(in_memory))
        .await
        .expect("opens")
}

fn intent(name: Option<&str>) -> Intent {
    let key = uuid::Uuid::new_v4().to_string();
    Intent {
        cluster: "c".into(),
        route: "r".into(),
        lookup: Lookup {
            sent_name: Some(name.map_or_else(|| format!("livy-gateway-{key}"), str::to_owned)),
            key,
        },
        owner: "ann".into(),
        name: name.map(str::to_owned),
        names_kept_by_cluster: false,
        body_hash: "h".into(),
        key: None,
        above: None,
        proxy_user: None,
        name_in_use: false,
        replaces: None,
    }
}

async fn new(registry: &Registry, intent: Intent) -> Arc<Entry> {
    match registry.record(intent).await.expect("is stored") {
        Intention::New(entry) => entry,
        other => panic!("not new: {other:?}"),
    }
}

fn shown(entry: &Entry, id: &str, state: BatchState) -> Observed {
    seen(id, entry.lookup.sent_name.as_deref(), state)
}

async fn total(registry: &Registry) -> usize {
    registry
        .list(Visible::All, None, Vec::new(), |total| 0..total)
        .await
        .expect("is read")
        .0
}

#[tokio::test]
async fn ids_are_never_used_again() {
    let registry = registry().await;
    let first = new(&registry, intent(None)).await;
    assert!(
        registry
            .refuse(&first, "no", false)
            .await
            .expect("is stored")
    );
    let later = registry.clock().now().after(Duration::from_secs(1));
    let sweeps = registry.store.sweep(Duration::ZERO, later);
    sweeps.await.expect("sweeps");
    assert!(
        registry
            .store
            .get(first.id)
            .await
            .expect("is read")
            .is_none()
    );
    assert!(new(&registry, intent(None)).await.id > first.id);
}

#[tokio::test]
async fn names_are_held_by_the_living_and_a_while_longer() {
    let registry = registry().await;
    let entry = new(&registry, intent(Some("nightly"))).await;
    assert!(registry.show(&entry, true));
    registry.flush().await;
    let again = registry
        .record(intent(Some("nightly")))
        .await
        .expect("is stored");
    assert!(matches!(again, Intention::NameTaken(Some(id)) if id == entry.id));
    registry
        .bind(&entry, &seen("0", Some("nightly"), BatchState::Success))
        .await
        .expect("is stored");
    assert!(
        matches!(
            registry.record(intent(Some("nightly"))).await,
            Ok(Intention::NameTaken(_))
        ),
        "ended a moment ago"
    );
    registry.delete(&entry, false).await.expect("is stored");
    new(&registry, intent(Some("nightly"))).await;
}

#[tokio::test]
async fn an_upstream_id_belongs_to_the_last_who_got_it() {
    let registry = registry().await;
    let (old, young) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    registry
        .bind(&old, &shown(&old, "0", BatchState::Running))
        .await
        .expect("is stored");
    registry
        .bind(&young, &shown(&young, "0", BatchState::Running))
        .await
        .expect("is stored");
    assert_eq!(
        old.phase(),
        Phase::Detached {
            upstream_id: Some("0".into())
        },
        "memory hears of it"
    );
    assert_eq!(old.known().state, BatchState::Error);
    assert!(
        old.known()
            .app_info
            .get("gatewayReason")
            .is_some_and(Option::is_some)
    );
    assert_eq!(
        young.phase(),
        Phase::Bound {
            upstream_id: "0".into()
        }
    );
}

#[tokio::test]
async fn lists_adopt_what_is_new_and_nothing_that_is_on_its_way() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    let ours = shown(&entry, "5", BatchState::Running);
    let list = vec![
        ours.clone(),
        seen("6", Some("foreign"), BatchState::Running),
    ];
    registry
        .adopt("c", list.clone(), registry.clock().now())
        .await
        .expect("is stored");
    assert_eq!(
        total(&registry).await,
        2,
        "the one on its way, and the foreign one"
    );
    registry.bind(&entry, &ours).await.expect("is stored");
    registry
        .adopt("c", list, registry.clock().now())
        .await
        .expect("is stored");
    assert_eq!(total(&registry).await, 2);
    registry.delete(&entry, false).await.expect("is stored");
    registry
        .adopt(
            "c",
            vec![shown(&entry, "5", BatchState::Killed)],
            registry.clock().now(),
        )
        .await
        .expect("is stored");
    assert_eq!(
        total(&registry).await,
        1,
        "what was deleted stays away, though its cluster goes on listing it"
    );
}

#[tokio::test]
async fn what_was_given_up_is_never_a_new_batch() {
    let registry = registry().await;
    let (untold, told) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    assert!(registry.tell_if_open(&told).await.expect("is stored"));
    assert!(
        registry
            .refuse(&untold, "absent", true)
            .await
            .expect("is stored")
    );
    assert!(
        !registry
            .refuse(&told, "absent", true)
            .await
            .expect("is stored"),
        "an id that was handed out stays answerable"
    );
    assert_eq!(
        (told.known().state, total(&registry).await),
        (BatchState::Error, 1)
    );
    let list = vec![
        shown(&untold, "8", BatchState::Running),
        shown(&told, "9", BatchState::Running),
    ];
    let late = registry
        .adopt("c", list, registry.clock().now())
        .await
        .expect("is stored")
        .late;
    assert_eq!(
        late.iter().map(|(entry, _)| entry.id).collect::<Vec<_>>(),
        [untold.id, told.id]
    );
    assert_eq!(total(&registry).await, 1, "no twin");
    registry
        .adopt_late(&untold, &late[0].1)
        .await
        .expect("is stored");
    assert_eq!(
        untold.phase(),
        Phase::Bound {
            upstream_id: "8".into()
        }
    );
    assert_eq!(
        registry
            .may_arrive("c", Duration::from_secs(60), GatewayId(0), 10)
            .await
            .expect("is read")
            .len(),
        1
    );
}

#[tokio::test]
async fn a_batch_that_gets_its_name_later_is_still_the_same() {
    let registry = registry().await;
    let id = "0e0b6f5e-0000-4000-8000-000000000000";
    let with_user = |name: Option<&str>, state| Observed {
        proxy_user: Some("ann".into()),
        ..seen(id, name, state)
    };
    registry
        .adopt(
            "c",
            vec![with_user(None, BatchState::Starting)],
            registry.clock().now(),
        )
        .await
        .expect("is stored");
    registry
        .adopt(
            "c",
            vec![with_user(Some("the app's own"), BatchState::Running)],
            registry.clock().now(),
        )
        .await
        .expect("is stored");
    let (total, entries) = registry
        .list(Visible::OwnedBy("ann".into()), None, Vec::new(), |total| {
            0..total
        })
        .await
        .expect("is read");
    assert_eq!((total, entries[0].known().state), (1, BatchState::Running));
}

#[tokio::test]
async fn the_internal_name_is_shown_to_nobody() {
    let registry = registry().await;
    let another_gateways = seen(
        "5",
        Some("livy-gateway-0e0b6f5e-0000-4000-8000-00000000000f"),
        BatchState::Running,
    );
    registry
        .adopt("c", vec![another_gateways], registry.clock().now())
        .await
        .expect("is stored");
    let (_, entries) = registry
        .list(Visible::All, None, Vec::new(), |total| 0..total)
        .await
        .expect("is read");
    assert_eq!(entries[0].batch().name, None);
}

#[tokio::test]
async fn a_refused_submission_frees_its_key() {
    let registry = registry().await;
    let keyed = || Intent {
        key: Some(("k".into(), Duration::from_secs(60))),
        ..intent(None)
    };
    let first = new(&registry, keyed()).await;
    assert!(
        matches!(registry.record(keyed()).await, Ok(Intention::Same(entry)) if Arc::ptr_eq(&entry, &first))
    );
    assert!(matches!(
        registry.by_key("ann", "k", "h").await,
        Ok(Some(Intention::Same(_)))
    ));
    assert!(matches!(
        registry.by_key("ann", "k", "other").await,
        Ok(Some(Intention::Conflict))
    ));
    assert!(matches!(registry.by_key("bob", "k", "h").await, Ok(None)));
    registry
        .refuse(&first, "no", false)
        .await
        .expect("is stored");
    let second = new(&registry, keyed()).await;
    assert!(second.id > first.id);
    // Proven absent after its client was told of it: it is an error to look at, and the key is
    // free.
    registry.tell_if_open(&second).await.expect("is stored");
    registry
        .is_absent(&second, "absent")
        .await
        .expect("is stored");
    let third = new(&registry, keyed()).await;
    // The next cluster has it: the key goes along, in one step.
    let fourth = new(
        &registry,
        Intent {
            replaces: Some(Replaced {
                id: third.id,
                may_arrive: false,
            }),
            ..keyed()
        },
    )
    .await;
    assert_eq!(third.phase(), Phase::Refused);
    assert!(
        matches!(registry.by_key("ann", "k", "h").await, Ok(Some(Intention::Same(entry))) if entry.id == fourth.id)
    );
}

#[tokio::test]
async fn an_outcome_that_nobody_can_know_keeps_the_key() {
    let registry = registry().await;
    let keyed = || Intent {
        key: Some(("k".into(), Duration::from_secs(60))),
        ..intent(None)
    };
    let first = new(&registry, keyed()).await;
    registry
        .give_up(&first, "nobody knows", true)
        .await
        .expect("is stored");
    assert!(
        matches!(registry.record(keyed()).await, Ok(Intention::Same(entry)) if entry.id == first.id),
        "it may have run"
    );
}

/// The second attempt came to nothing: the first, which nobody could ask about, is open as before.
#[tokio::test]
async fn what_gave_way_may_be_open_again() {
    let registry = registry().await;
    let keyed = || Intent {
        key: Some(("k".into(), Duration::from_secs(60))),
        ..intent(None)
    };
    let first = new(&registry, keyed()).await;
    assert!(registry.withdraw(&first));
    let replaces = Some(Replaced {
        id: first.id,
        may_arrive: true,
    });
    let second = new(
        &registry,
        Intent {
            replaces,
            ..keyed()
        },
    )
    .await;
    assert!(registry.withdraw(&second));
    registry
        .reopen(&first, Some(&second))
        .await
        .expect("is stored");
    registry
        .refuse(&second, "no room", false)
        .await
        .expect("is stored");
    assert!(
        matches!(registry.by_key("ann", "k", "h").await, Ok(Some(Intention::Same(entry))) if entry.id == first.id)
    );
    let pending = registry.take_over().await.expect("is read");
    assert_eq!(
        pending.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [first.id]
    );
    registry
        .bind(&first, &shown(&first, "3", BatchState::Running))
        .await
        .expect("is stored");
    assert_eq!(total(&registry).await, 1);
}

/// Only a submission during which no other was open can own the one new batch of a list.
#[tokio::test]
async fn who_is_open_or_ended_unknown_was_there_too() {
    let registry = registry().await;
    let unnamed = || {
        let mut intent = intent(None);
        intent.lookup.sent_name = None;
        intent
    };
    let was_alone = async |entry: &Entry| registry.was_alone(entry).await.expect("is read");
    let alices = new(&registry, unnamed()).await;
    assert!(was_alone(&alices).await);
    let bobs = new(&registry, unnamed()).await;
    assert!(!was_alone(&alices).await && !was_alone(&bobs).await);
    registry
        .give_up(&bobs, "nobody knows", true)
        .await
        .expect("is stored");
    assert!(!was_alone(&alices).await, "it may be bob's");
    let carols = new(&registry, unnamed()).await;
    registry
        .is_absent(&carols, "absent")
        .await
        .expect("is stored");
    let later = new(&registry, unnamed()).await;
    registry
        .give_up(&alices, "nobody knows", true)
        .await
        .expect("is stored");
    assert!(!was_alone(&later).await);
}

#[tokio::test]
async fn a_write_that_saw_less_is_refused_and_learns() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    // Another process, on the same store, ends it.
    let mut row = registry
        .store
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    row.known.phase = Phase::Bound {
        upstream_id: "7".into(),
    };
    row.known.state = BatchState::Success;
    row.known.ended = Some(registry.clock().now());
    assert!(matches!(
        registry.store.save(vec![row]).await.expect("is stored")[0],
        Saved::Stored(2)
    ));
    registry.looked(&entry, Duration::from_secs(1), None);
    registry.flush().await;
    assert_eq!(
        (entry.phase(), entry.known().state),
        (
            Phase::Bound {
                upstream_id: "7".into()
            },
            BatchState::Success
        )
    );
    let stored = registry
        .store
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    assert_eq!(
        stored.known.phase,
        Phase::Bound {
            upstream_id: "7".into()
        },
        "a late `sending` brought nothing back"
    );
}

#[tokio::test]
async fn one_batch_has_one_memory_however_full_the_cache_is() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    registry.cache.clear();
    let again = registry
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    assert!(Arc::ptr_eq(&entry, &again), "who works on it pins it");
    registry
        .bind(&entry, &shown(&entry, "7", BatchState::Running))
        .await
        .expect("is stored");
    registry.cache.clear();
    let (_, listed) = registry
        .list(Visible::All, None, Vec::new(), |total| 0..total)
        .await
        .expect("is read");
    assert!(Arc::ptr_eq(&entry, &listed[0]));
    assert_eq!(
        again.phase(),
        Phase::Bound {
            upstream_id: "7".into()
        }
    );
}

#[tokio::test]
async fn an_end_that_was_heard_is_stored() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    registry
        .bind(&entry, &shown(&entry, "7", BatchState::Running))
        .await
        .expect("is stored");
    assert_eq!(
        registry
            .observe(&entry, &shown(&entry, "7", BatchState::Success))
            .await,
        Some(BatchState::Success)
    );
    let stored = registry
        .store
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    assert_eq!(stored.known.state, BatchState::Success, "without any flush");
}

#[tokio::test]
async fn the_wall_clock_alone_sweeps_nothing() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    registry
        .bind(&entry, &shown(&entry, "7", BatchState::Success))
        .await
        .expect("is stored");
    registry.clock().set_skew_ms(31 * 24 * 3_600_000);
    assert_eq!(
        registry
            .sweep(Duration::from_secs(30 * 24 * 3600))
            .await
            .expect("sweeps"),
        0
    );
}

#[tokio::test]
async fn one_list_takes_no_id_away() {
    let registry = registry().await;
    let entry = new(&registry, intent(None)).await;
    let asked = registry.clock().now();
    registry
        .bind(&entry, &shown(&entry, "0", BatchState::Running))
        .await
        .expect("is stored");
    let others = || vec![seen("0", Some("others"), BatchState::Running)];
    let listed = registry
        .adopt("c", others(), asked)
        .await
        .expect("is stored");
    assert!(listed.doubted.is_empty(), "asked for before it was bound");
    let asked = registry.clock().now().after(Duration::from_secs(1));
    let listed = registry
        .adopt("c", others(), asked)
        .await
        .expect("is stored");
    assert_eq!(listed.doubted.len(), 1);
    let twice = vec![
        shown(&entry, "0", BatchState::Success),
        seen("0", None, BatchState::Running),
    ];
    registry.adopt("c", twice, asked).await.expect("is stored");
    assert_eq!(entry.known().state, BatchState::Running);
    assert_eq!(
        entry.phase(),
        Phase::Bound {
            upstream_id: "0".into()
        }
    );
    assert_eq!(total(&registry).await, 1);
}

#[tokio::test]
async fn what_lost_its_id_on_anothers_word_is_bound_again() {
    let registry = registry().await;
    let (old, young) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    for entry in [&old, &young] {
        registry
            .bind(entry, &shown(entry, "0", BatchState::Running))
            .await
            .expect("is stored");
    }
    assert_eq!(old.known().state, BatchState::Error);
    let list = vec![shown(&old, "7", BatchState::Running)];
    let listed = registry
        .adopt(
            "c",
            list,
            registry.clock().now().after(Duration::from_secs(1)),
        )
        .await
        .expect("is stored");
    assert!(listed.late.is_empty());
    let stored = registry
        .store
        .get(old.id)
        .await
        .expect("is read")
        .expect("is there");
    for known in [old.known(), stored.known] {
        assert_eq!(
            (known.phase, known.state, known.ended),
            (
                Phase::Bound {
                    upstream_id: "7".into()
                },
                BatchState::Running,
                None
            )
        );
        assert!(!known.app_info.contains_key("gatewayReason"));
    }
}

/// The answer to its submission named a wrong number, and its own name shows the right one.
#[tokio::test]
async fn a_made_up_name_tells_the_number() {
    let registry = registry().await;
    let (wrong, other) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    for (entry, id) in [(&wrong, "0"), (&other, "1")] {
        registry
            .bind(entry, &shown(entry, id, BatchState::Running))
            .await
            .expect("is stored");
    }
    let rebind = async |id: &str| {
        let seen = shown(&wrong, id, BatchState::Running);
        registry.rebind(&wrong, &seen).await.expect("is stored")
    };
    assert!(!rebind("1").await, "another batch lives under it");
    assert!(rebind("7").await);
    for (entry, id) in [(&wrong, "7"), (&other, "1")] {
        let phase = Phase::Bound {
            upstream_id: id.into(),
        };
        let row = registry.store.get(entry.id).await.expect("is read");
        assert_eq!(row.expect("is there").known.phase, phase);
        assert_eq!(entry.phase(), phase);
        let holder = async |of: &Arc<Entry>| registry.live_holder(of, id).await;
        assert!(holder(entry).await.expect("is read").is_none(), "its own");
        let others = if entry.id == wrong.id { &other } else { &wrong };
        let found = holder(others).await.expect("is read");
        assert_eq!(found.map(|found| found.id), Some(entry.id));
    }
}

#[tokio::test]
async fn what_could_not_be_bound_is_bound_later() {
    let registry = registry().await;
    let (old, young) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    registry
        .bind(&old, &shown(&old, "0", BatchState::Running))
        .await
        .expect("is stored");
    // As after a bind that the database refused.
    let shown_young = shown(&young, "0", BatchState::Running);
    young.change(|known| {
        decide::bind(known, &shown_young, registry.clock().now());
    });
    young.bind_is_owed();
    registry.save_soon(&young);
    registry.flush().await;
    assert!(registry.is_writable() && lock(&registry.dirty).is_empty());
    assert!(matches!(old.phase(), Phase::Detached { .. }));
    registry
        .observe(&young, &shown(&young, "0", BatchState::Success))
        .await;
    let stored = registry
        .store
        .get(young.id)
        .await
        .expect("is read")
        .expect("is there");
    assert_eq!(
        (stored.known.phase, stored.known.state),
        (
            Phase::Bound {
                upstream_id: "0".into()
            },
            BatchState::Success
        )
    );
}

#[tokio::test]
async fn what_may_arrive_is_read_to_its_end() {
    let registry = registry().await;
    for _ in 0..7 {
        let entry = new(&registry, intent(None)).await;
        registry
            .refuse(&entry, "absent", true)
            .await
            .expect("is stored");
    }
    let (mut seen, mut after) = (0, GatewayId(0));
    loop {
        let page = registry
            .may_arrive("c", Duration::from_secs(60), after, 3)
            .await
            .expect("is read");
        let Some(last) = page.last() else { break };
        (seen, after) = (seen + page.len(), last.id);
    }
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn the_oldest_of_a_name_still_counts() {
    let registry = registry().await;
    let named = || Intent {
        above: Some(-1),
        ..intent(Some("nightly"))
    };
    let first = new(&registry, named()).await;
    registry
        .refuse(&first, "absent", true)
        .await
        .expect("is stored");
    for _ in 0..45 {
        let refused = new(&registry, named()).await;
        registry
            .refuse(&refused, "no", false)
            .await
            .expect("is stored");
    }
    let list = vec![seen("0", Some("nightly"), BatchState::Running)];
    let listed = registry
        .adopt("c", list, registry.clock().now())
        .await
        .expect("is stored");
    assert_eq!(listed.late.len(), 1);
    assert_eq!(listed.late[0].0.id, first.id);
}

#[tokio::test]
async fn an_order_holds_until_it_is_taken_back() {
    let registry = registry().await;
    let first = registry
        .give_order("c", Wish::Drain, "ann")
        .await
        .expect("is stored");
    let again = registry
        .give_order("c", Wish::Drain, "bob")
        .await
        .expect("is stored");
    assert_eq!(first, again, "the first one holds");
    for (cluster, wish) in [("c", Wish::Disable), ("d", Wish::Drain)] {
        registry
            .give_order(cluster, wish, "ann")
            .await
            .expect("is stored");
    }
    let held = || async {
        let orders = registry.orders().await.expect("is read");
        orders
            .into_iter()
            .map(|order| (order.cluster, order.wish))
            .collect::<Vec<_>>()
    };
    let (c, d) = ("c".to_owned(), "d".to_owned());
    assert_eq!(
        held().await,
        [
            (c.clone(), Wish::Disable),
            (c.clone(), Wish::Drain),
            (d.clone(), Wish::Drain)
        ]
    );
    assert!(
        registry
            .lift_order("c", Wish::Drain)
            .await
            .expect("is stored")
    );
    assert!(
        !registry
            .lift_order("c", Wish::Drain)
            .await
            .expect("is stored")
    );
    assert_eq!(
        held().await,
        [(c, Wish::Disable), (d, Wish::Drain)],
        "each for itself"
    );
}

#[tokio::test]
async fn what_was_shown_does_not_vanish() {
    let registry = registry().await;
    let (seen_by_another, withdrawn) = (
        new(&registry, intent(Some("a"))).await,
        new(&registry, intent(Some("b"))).await,
    );
    assert!(registry.show(&seen_by_another, false));
    assert!(!registry.withdraw(&seen_by_another));
    let again = registry.record(intent(Some("a"))).await.expect("is stored");
    assert!(
        matches!(again, Intention::Same(entry) if entry.id == seen_by_another.id),
        "its owner has not heard of it"
    );
    assert!(registry.show(&seen_by_another, true));
    registry.flush().await;
    let again = registry.record(intent(Some("a"))).await.expect("is stored");
    assert!(matches!(again, Intention::NameTaken(_)), "now it has");
    let vanishes = registry.refuse(&seen_by_another, "no room", false).await;
    assert!(!vanishes.expect("is stored"));
    assert_eq!(seen_by_another.known().state, BatchState::Error);
    assert!(registry.withdraw(&withdrawn) && !registry.show(&withdrawn, true));
}

#[tokio::test]
async fn what_was_to_end_and_is_absent_is_deleted_and_keeps_its_key() {
    let registry = registry().await;
    let keyed = || Intent {
        key: Some(("k".into(), Duration::from_secs(60))),
        ..intent(None)
    };
    let entry = new(&registry, keyed()).await;
    registry.ask_kill(&entry, false).await.expect("is stored");
    assert!(!registry.withdraw(&entry));
    registry
        .is_absent(&entry, "absent")
        .await
        .expect("is stored");
    assert_eq!(entry.phase(), Phase::Deleted { upstream_id: None });
    assert!(
        matches!(registry.record(keyed()).await, Ok(Intention::Same(same)) if same.id == entry.id)
    );
}

#[tokio::test]
async fn what_was_submitted_again_is_known() {
    let registry = registry().await;
    let first = new(&registry, intent(None)).await;
    registry
        .refuse(&first, "no answer", true)
        .await
        .expect("is stored");
    let again = async || {
        let again = registry.was_submitted_again(&first).await;
        again.expect("is read")
    };
    let other = Intent {
        body_hash: "other".into(),
        ..intent(None)
    };
    new(&registry, other).await;
    assert!(!again().await);
    let second = new(&registry, intent(None)).await;
    assert!(again().await, "it is open");
    registry
        .refuse(&second, "no room", false)
        .await
        .expect("is stored");
    assert!(!again().await, "it came to nothing as well");
}

#[tokio::test]
async fn what_may_arrive_is_not_swept() {
    let registry = registry().await;
    let (lost, refused) = (
        new(&registry, intent(None)).await,
        new(&registry, intent(None)).await,
    );
    registry
        .refuse(&lost, "absent", true)
        .await
        .expect("is stored");
    registry
        .refuse(&refused, "no", false)
        .await
        .expect("is stored");
    let later = registry.clock().now().after(Duration::from_secs(600));
    let swept = registry.store.sweep(Duration::from_secs(60), later).await;
    assert_eq!(swept.expect("sweeps"), 1);
    let later = registry.clock().now().after(Duration::from_secs(4000));
    let swept = registry.store.sweep(Duration::from_secs(60), later).await;
    assert_eq!(swept.expect("sweeps"), 1);
}

#[tokio::test]
async fn what_was_given_up_arrives_at_no_other_server() {
    let registry = registry().await;
    let entry = new(&registry, intent(Some("nightly"))).await;
    let given_up = registry.refuse(&entry, "absent", true).await;
    assert!(given_up.expect("is stored"));
    registry.give_up_arrivals("c").await.expect("is stored");
    let hour = Duration::from_secs(3600);
    let watched = registry.may_arrive("c", hour, GatewayId(0), 10).await;
    assert!(watched.expect("is read").is_empty());
    // The name stands for another server from now on, whose job of that name is its own.
    let list = vec![seen("500", Some("nightly"), BatchState::Running)];
    let now = registry.clock().now();
    let listed = registry.adopt("c", list, now).await.expect("is stored");
    assert!(listed.late.is_empty());
    assert_eq!(total(&registry).await, 1, "it is listed as what it is");
}
