//! What only a database file can do.

use livy_dialect::BatchState;

use super::schema::MIGRATIONS;
use super::*;
use crate::registry::row::Phase;

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    drop(SqliteStore::open(&path).expect("opens"));
    let connection = Connection::open(&path).expect("opens");
    connection
        .execute_batch("PRAGMA user_version = 99")
        .expect("writes");
    assert!(
        SqliteStore::open(&path)
            .expect_err("is refused")
            .contains("newer version")
    );
}

#[test]
fn one_file_has_one_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let first = SqliteStore::open(&path).expect("opens");
    let refusal = SqliteStore::open(&path).expect_err("is refused");
    assert!(
        refusal.contains("another gateway is using it")
            && refusal.contains(&std::process::id().to_string()),
        "{refusal}"
    );
    drop(first);
}

#[tokio::test]
async fn who_lets_go_of_a_file_has_written_all_and_leaves_it_to_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    for round in 1..20 {
        let store = SqliteStore::open(&path).expect("opens");
        let mut write = store.beat(round);
        let began = std::future::poll_fn(|context| {
            std::task::Poll::Ready(write.as_mut().poll(context).is_pending())
        });
        // Nobody waits for it any more.
        began.await;
        drop(write);
        drop(store);
        let next = SqliteStore::open(&path).expect("opens");
        assert_eq!(next.uptime_ms().await.expect("is read"), round);
    }
}

#[test]
fn ids_never_begin_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    std::fs::write(folder.path().join("a.db.ids"), "                 12\n").expect("is written");
    let refusal = SqliteStore::open(&path).expect_err("is refused");
    assert!(
        refusal.contains("ids up to 12 were given") && refusal.contains("a.db.ids"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(&path).expect("opens");
    store.beat(1).await.expect("is written");
    std::fs::remove_file(&path).expect("is removed");
    assert!(
        store
            .beat(2)
            .await
            .expect_err("is refused")
            .to_string()
            .contains("is gone")
    );
    assert_eq!(store.uptime_ms().await.expect("reads go on"), 1);
    std::fs::write(&path, "").expect("is written");
    assert!(
        store
            .beat(3)
            .await
            .expect_err("is refused")
            .to_string()
            .contains("was replaced")
    );
}

#[tokio::test]
async fn an_old_copy_that_is_written_over_a_database_gives_no_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(&path).expect("opens");
    let adopt = || {
        let seen = crate::registry::entry::tests::seen("3", None, BatchState::Running);
        let now = Moment::default();
        store.adopt("c".into(), vec![seen], now, now)
    };
    let copy = || {
        let other = Connection::open(&path).expect("opens");
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = other
            .query_row(checkpoint, [], |row| row.get(0))
            .expect("is written");
        assert_eq!(busy, 0);
        std::fs::read(&path).expect("is read")
    };
    let old = copy();
    adopt().await.expect("is stored");
    copy();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("opens");
    std::io::Write::write_all(&mut file, &old).expect("is written");
    let refusal = adopt().await.expect_err("is refused").to_string();
    assert!(refusal.contains("ids up to 1 were given"), "{refusal}");
}

#[tokio::test]
async fn a_log_that_is_gone_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(&path).expect("opens");
    store.beat(1).await.expect("is written");
    std::fs::remove_file(folder.path().join("a.db-wal")).expect("is removed");
    let refusal = store.beat(2).await.expect_err("is refused");
    assert!(refusal.to_string().contains("-wal is gone"), "{refusal}");
}

/// Every schema that there was, with batches in it.
#[tokio::test]
async fn a_database_of_any_version_keeps_its_batches_and_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    for version in 1..MIGRATIONS.len() {
        let path = folder.path().join(format!("{version}.db"));
        let old = Connection::open(&path).expect("opens");
        for migration in &MIGRATIONS[..version] {
            old.execute_batch(migration).expect("is written");
        }
        old.execute_batch(&format!("PRAGMA user_version = {version}"))
            .and_then(|()| {
                old.execute_batch(
                    "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, upstream_id, state, created_ms, ended_ms)
                     VALUES ('c', 'r', 'k', 'n', 'ann', 'n', 'bound', '3', 'success', 5, 9);
                     INSERT INTO batches (id, cluster, route, lookup_key, owner, phase, state, created_ms)
                     VALUES (5000, 'c', 'r', 'k', 'ann', 'sending', 'starting', 5), (5001, 'd', 'r', 'l', NULL, 'detached', 'error', 5),
                         (5002, 'd', 'r', 'm', 'bob', 'deleted', 'killed', 5), (200000, 'd', 'r', 'o', 'bob', 'bound', 'running', 5)",
                )
            })
            .expect("is written");
        drop(old);
        let store = SqliteStore::open(&path).expect("opens");
        let row = store.get(GatewayId(1)).await.expect("is read");
        let known = row.expect("is there").known;
        let bound = Phase::Bound {
            upstream_id: "3".into(),
        };
        assert_eq!((known.phase, known.state), (bound, BatchState::Success));
        assert!(known.told, "somebody may have been given it");
        let ids = async |visible: Visible, cluster: Option<&str>, from: usize| {
            let cluster = cluster.map(str::to_owned);
            let range = Box::new(move |total| from.min(total)..total);
            let (total, rows) = store
                .list(visible, cluster, Vec::new(), range)
                .await
                .expect("is read");
            let ids = rows.iter().map(|row| row.identity.id.0);
            (total, ids.collect::<Vec<_>>())
        };
        let of = |owner: &str| Visible::OwnedBy(owner.to_owned());
        assert_eq!(
            ids(Visible::All, None, 1).await,
            (4, vec![5000, 5001, 200_000])
        );
        assert_eq!(ids(of("ann"), None, 1).await, (2, vec![5000]));
        assert_eq!(ids(of("bob"), Some("d"), 0).await, (1, vec![200_000]));
        assert_eq!(ids(Visible::All, Some("d"), 1).await, (2, vec![200_000]));
        let live = |cluster: &str| store.live(cluster.to_owned());
        assert_eq!((live("c").await, live("d").await).0.expect("is read"), 1);
        assert_eq!(live("d").await.expect("is read"), 1);
    }
}

/// Ids at the edges of blocks of every size, up to the highest one.
#[tokio::test]
async fn a_page_begins_where_it_should_however_high_the_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(&path).expect("opens");
    let ids = [
        1,
        2,
        1023,
        1024,
        1025,
        131_071,
        131_072,
        131_073,
        16_777_215,
        16_777_216,
        16_777_217,
        2_000_000_000,
        2_147_483_646,
        i32::MAX,
    ];
    let values =
        ids.map(|id| format!("({id}, 'c', 'r', 'k{id}', 'ann', 'bound', '{id}', 'running', 5)"));
    let insert = "INSERT INTO batches (id, cluster, route, lookup_key, owner, phase, upstream_id, state, created_ms) VALUES";
    Connection::open(&path)
        .and_then(|other| other.execute_batch(&format!("{insert} {}", values.join(","))))
        .expect("is written");
    for hidden in [&[][..], &ids[..2], &ids[4..10], &ids[13..]] {
        let shown: Vec<i32> = ids.into_iter().filter(|id| !hidden.contains(id)).collect();
        for from in 0..=shown.len() {
            let hidden = hidden.iter().map(|id| GatewayId(*id)).collect();
            let range = Box::new(move |total| from..total);
            let listed = store.list(Visible::OwnedBy("ann".into()), None, hidden, range);
            let (total, rows) = listed.await.expect("is read");
            let page: Vec<i32> = rows.iter().map(|row| row.identity.id.0).collect();
            assert_eq!((total, &page[..]), (shown.len(), &shown[from..]));
        }
    }
}

/// A submission of a store's own.
fn submission(key: &str) -> NewRow {
    NewRow {
        cluster: "c".into(),
        route: "r".into(),
        lookup: livy_dialect::Lookup {
            key: key.into(),
            sent_name: None,
        },
        owner: Some("ann".into()),
        name: None,
        name_hold_ms: 0,
        body_hash: "h".into(),
        key: None,
        above: None,
        proxy_user: None,
        name_in_use: false,
        replaces: None,
        seen: 0,
    }
}

/// Keeps a store's writing thread at work until the returned end is dropped. Waits until it is.
async fn occupy(store: &SqliteStore) -> (std::sync::mpsc::Sender<()>, impl Future<Output = ()>) {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let work = store.write(move |_| {
        let _ = begin.send(());
        let _ = released.recv();
        Ok(())
    });
    let mut work = Box::pin(async move { work.await.expect("is done") });
    tokio::select! {
        () = &mut work => unreachable!("it waits to be released"),
        begun = begun => begun.expect("begins"),
    }
    (release, work)
}

/// Polls a future once, so that its work is in the queue.
async fn queue(work: &mut (impl Future + Unpin)) {
    let once = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *work).poll(context).is_ready())
    });
    assert!(!once.await, "it waits");
}

#[tokio::test]
async fn what_arrives_together_is_on_disk_together_and_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(&path).expect("opens");
    let now = Moment::default();
    let (release, occupied) = occupy(&store).await;
    let mut first = store.record(submission("a"), now);
    // Breaks a promise of the table after it has changed something.
    let mut broken = store.write(|tx| {
        tx.execute_batch("UPDATE meta SET value = 77; UPDATE batches SET phase = 'nonsense'")
    });
    let other = path.clone();
    let mut between = store.write(move |tx| {
        let count = |connection: &Connection| -> rusqlite::Result<i64> {
            connection.query_row("SELECT count(*) FROM batches", [], |row| row.get(0))
        };
        Ok((count(tx)?, count(&Connection::open(other)?)?))
    });
    let mut last = store.record(submission("b"), now);
    queue(&mut first).await;
    queue(&mut broken).await;
    queue(&mut between).await;
    queue(&mut last).await;
    drop(release);
    occupied.await;
    let id = |recorded: Result<Recorded, RegistryError>| match recorded {
        Ok(Recorded::New(row)) => row.identity.id.0,
        other => panic!("not new: {other:?}"),
    };
    assert_eq!((id(first.await), id(last.await)), (1, 2));
    assert!(matches!(broken.await, Err(RegistryError::OutOfIds)));
    let (inside, outside) = between.await.expect("is read");
    assert_eq!((inside, outside), (1, 0), "one transaction for all of them");
    assert_eq!(
        store.uptime_ms().await.expect("is read"),
        0,
        "it was undone"
    );
    let marked = std::fs::read_to_string(folder.path().join("a.db.ids")).expect("is there");
    assert_eq!(marked.trim(), "2");
}

#[tokio::test]
async fn what_shares_a_transaction_fails_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("a.db")).expect("opens");
    let (release, occupied) = occupy(&store).await;
    let now = Moment::default();
    let mut first = store.record(submission("a"), now);
    // As SQLite itself does when the disk is full.
    let mut undone = store.write(|tx| tx.execute_batch("ROLLBACK; SELECT nothing"));
    let mut last = store.record(submission("b"), now);
    queue(&mut first).await;
    queue(&mut undone).await;
    queue(&mut last).await;
    drop(release);
    occupied.await;
    for outcome in [first.await, last.await] {
        assert!(
            matches!(outcome, Err(RegistryError::Store(_))),
            "{outcome:?}"
        );
    }
    undone.await.expect_err("it failed itself");
    assert!(store.get(GatewayId(1)).await.expect("is read").is_none());
    let again = store.record(submission("a"), now).await;
    assert!(matches!(again, Ok(Recorded::New(_))), "{again:?}");
}

#[tokio::test]
async fn nobody_who_reads_waits_for_who_writes_or_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("a.db")).expect("opens");
    store.beat(5).await.expect("is written");
    let (release, occupied) = occupy(&store).await;
    let (slow, slowed) = std::sync::mpsc::channel::<()>();
    let mut long = store.read(move |_| {
        let _ = slowed.recv();
        Ok(())
    });
    queue(&mut long).await;
    assert_eq!(store.uptime_ms().await.expect("is read"), 5);
    drop((slow, release));
    occupied.await;
    long.await.expect("is read");
}

/// What a future that has resolved wrote is seen by whoever asks then.
#[tokio::test]
async fn what_was_written_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("a.db")).expect("opens");
    for round in 1..50 {
        store.beat(round).await.expect("is written");
        let reads = (0..READERS).map(|_| store.uptime_ms());
        for read in reads.collect::<Vec<_>>() {
            assert_eq!(read.await.expect("is read"), round);
        }
    }
}
