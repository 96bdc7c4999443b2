//! What only a shared store can do, with two processes on one database. Needs a server:
//! `tests/with-postgres.sh cargo test --lib registry::`.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{BatchState, Lookup};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::NoTls;

use super::*;
use crate::config::checked::{ClusterTls, Secret};
use crate::registry::entry::tests::seen;
use crate::registry::{Entry, Intent, Intention, Registry, Replaced};

const NEEDED: &str = "LIVY_GATEWAY_TEST_POSTGRES names a server";

/// Makes a database of its own on the server that tests may use; nothing where there is none.
pub(crate) async fn database() -> Option<(Arc<dyn Store>, Postgres)> {
    let server = std::env::var("LIVY_GATEWAY_TEST_POSTGRES").ok()?;
    let (client, connection) = tokio_postgres::connect(&server, NoTls)
        .await
        .expect("the server is there");
    let task = tokio::spawn(connection);
    let name = format!("law_{}", uuid::Uuid::new_v4().simple());
    let made = client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await;
    made.expect("is made");
    task.abort();
    let (before, _) = server.rsplit_once('/').expect("a URL with a database");
    let config = Postgres {
        url: Secret {
            text: SecretString::from(format!("{before}/{name}")),
            file: None,
        },
        pool: 4,
        tls: ClusterTls::default(),
    };
    let store = PostgresStore::open(&config).await.expect("opens");
    Some((Arc::new(store), config))
}

/// Two processes on one database; nothing where there is no server.
async fn two() -> Option<(Registry, Registry)> {
    let (first, config) = database().await?;
    let second: Arc<dyn Store> = Arc::new(PostgresStore::open(&config).await.expect("opens"));
    let (first, second) = (Registry::open(first).await, Registry::open(second).await);
    let (first, second) = (first.expect("opens"), second.expect("opens"));
    for one in [&first, &second] {
        one.beat().await.expect("is alive");
    }
    Some((first, second))
}

fn intent(name: Option<&str>, key: Option<&str>) -> Intent {
    let lookup_key = uuid::Uuid::new_v4().to_string();
    Intent {
        cluster: "c".into(),
        route: "r".into(),
        lookup: Lookup {
            sent_name: Some(
                name.map_or_else(|| format!("livy-gateway-{lookup_key}"), str::to_owned),
            ),
            key: lookup_key,
        },
        owner: "ann".into(),
        name: name.map(str::to_owned),
        names_kept_by_cluster: false,
        body_hash: "h".into(),
        key: key.map(|key| (key.to_owned(), Duration::from_secs(3600))),
        above: None,
        proxy_user: None,
        name_in_use: false,
        replaces: None,
    }
}

async fn new(registry: &Registry) -> Arc<Entry> {
    match registry
        .record(intent(None, None))
        .await
        .expect("is stored")
    {
        Intention::New(entry) => entry,
        other => panic!("not new: {other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn a_key_that_two_processes_race_for_is_one_batch() {
    let (first, second) = two().await.expect(NEEDED);
    for round in 0..20 {
        let key = format!("k{round}");
        let (one, other) = tokio::join!(
            first.record(intent(Some(&key), Some(&key))),
            second.record(intent(Some(&key), Some(&key)))
        );
        let pair = (one.expect("is stored"), other.expect("is stored"));
        let ((Intention::New(one), Intention::Same(other))
        | (Intention::Same(one), Intention::New(other))) = &pair
        else {
            panic!("both, or none, are new: {pair:?}");
        };
        assert_eq!(one.id, other.id);
    }
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn what_one_process_changes_the_others_hear() {
    let (first, second) = two().await.expect(NEEDED);
    let entry = new(&first).await;
    // It begins to listen, and so may have missed anything.
    assert_eq!(second.follow().await, Change::Missed);
    let there = second
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    assert!(there.is_open());
    let shown = seen("5", entry.lookup.sent_name.as_deref(), BatchState::Running);
    first.bind(&entry, &shown).await.expect("is stored");
    let heard = tokio::select! {
        heard = second.follow() => heard,
        () = first.tell_others() => unreachable!("it goes on for ever"),
    };
    assert!(matches!(heard, Change::Batches(_)), "{heard:?}");
    assert_eq!(there.upstream_id().as_deref(), Some("5"));
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn nobody_takes_over_what_a_living_process_works_on() {
    let (first, second) = two().await.expect(NEEDED);
    let entry = new(&first).await;
    assert!(second.take_over().await.expect("is read").is_empty());
    let there = second
        .get(entry.id)
        .await
        .expect("is read")
        .expect("is there");
    assert!(
        second
            .is_worked_on_elsewhere(&there)
            .await
            .expect("is read")
    );
    assert!(!first.is_worked_on_elsewhere(&entry).await.expect("is read"));
    // It ends, and its lease with it.
    first.close().await;
    let taken = second.take_over().await.expect("is read");
    assert_eq!(
        taken.iter().map(|one| one.id).collect::<Vec<_>>(),
        [entry.id]
    );
    assert!(
        !second
            .is_worked_on_elsewhere(&there)
            .await
            .expect("is read")
    );
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn one_process_leads() {
    let (first, second) = two().await.expect(NEEDED);
    assert!(first.take_lead("c").await && !second.take_lead("c").await);
    assert!(first.leads("c") && !second.leads("c"));
    assert!(second.take_lead("d").await, "each cluster by itself");
    first.close().await;
    assert!(second.take_lead("c").await && second.leads("c"));
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn a_submission_that_may_yet_give_way_is_in_no_list_of_others() {
    let (first, second) = two().await.expect(NEEDED);
    let entry = new(&first).await;
    let total = |registry: Registry| async move {
        let all = registry.list(Visible::All, None, Vec::new(), |total| 0..total);
        let (total, page) = all.await.expect("is read");
        assert_eq!(total, page.len());
        (registry, total)
    };
    let (second, before) = total(second).await;
    assert_eq!(before, 0);
    first.tell_if_open(&entry).await.expect("is stored");
    assert_eq!(total(second).await.1, 1);
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn what_another_process_has_shown_is_not_let_go_of() {
    let (first, second) = two().await.expect(NEEDED);
    let (refused, replaced) = (new(&first).await, new(&first).await);
    for entry in [&refused, &replaced] {
        let there = second.get(entry.id).await.expect("is read");
        let there = there.expect("is there");
        assert!(second.show_to(&there, false).await.expect("is stored"));
    }
    let vanishes = first.refuse(&refused, "no room", false).await;
    assert!(!vanishes.expect("is stored"));
    assert_eq!(refused.known().state, BatchState::Error);
    assert!(first.withdraw(&replaced), "it has not heard of that");
    let next = Intent {
        replaces: Some(Replaced {
            id: replaced.id,
            may_arrive: false,
        }),
        ..intent(None, None)
    };
    let next = first.record(next).await.expect("is stored");
    assert!(
        matches!(&next, Intention::Same(entry) if entry.id == replaced.id),
        "{next:?}"
    );
    assert!(replaced.is_open());
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn pages_are_found_by_counts() {
    let (first, _) = two().await.expect(NEEDED);
    let mut ids = Vec::new();
    for at in 0..30 {
        let entry = new(&first).await;
        first.tell_if_open(&entry).await.expect("is stored");
        match at % 3 {
            0 => first.delete(&entry, false).await.expect("is stored"),
            _ => ids.push(entry.id),
        }
    }
    for (from, to) in [(0, 5), (7, 12), (18, 20), (0, 20)] {
        let (total, page) = first
            .list(
                Visible::OwnedBy("ann".into()),
                Some("c".into()),
                Vec::new(),
                move |_| from..to,
            )
            .await
            .expect("is read");
        assert_eq!(total, ids.len());
        let page: Vec<GatewayId> = page.iter().map(|entry| entry.id).collect();
        assert_eq!(page, ids[from..to]);
    }
    assert_eq!(first.live("c").await.expect("is read"), 20);
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn a_newer_schema_is_worked_on_as_long_as_it_can_be_read() {
    let (_, config) = database().await.expect(NEEDED);
    let url = config.url.text.expose_secret().to_owned();
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("connects");
    let task = tokio::spawn(connection);
    // As the next version would: it only adds.
    let newer = "ALTER TABLE batches ADD COLUMN mood text NOT NULL DEFAULT 'fine'; UPDATE schema_version SET version = version + 1";
    client.batch_execute(newer).await.expect("is done");
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&config).await.expect("opens"));
    let registry = Registry::open(store).await.expect("opens");
    let entry = new(&registry).await;
    let shown = seen("5", entry.lookup.sent_name.as_deref(), BatchState::Running);
    registry.bind(&entry, &shown).await.expect("is stored");
    let unreadable = "UPDATE schema_version SET readable_from = version";
    client.batch_execute(unreadable).await.expect("is done");
    let refusal = PostgresStore::open(&config).await.expect_err("is refused");
    assert!(refusal.contains("use a newer one"), "{refusal}");
    task.abort();
}

#[tokio::test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
async fn a_list_of_thousands_is_read_in_by_steps() {
    let (first, _) = two().await.expect(NEEDED);
    let list = |state| -> Vec<Observed> {
        (0..1_000)
            .map(|id: i32| seen(&id.to_string(), Some(&format!("job {}", id % 900)), state))
            .collect()
    };
    for state in [BatchState::Running, BatchState::Success] {
        let now = first.clock().now();
        first.adopt("c", list(state), now).await.expect("is stored");
        let (total, _) = first
            .list(Visible::All, None, Vec::new(), |_| 0..1)
            .await
            .expect("is read");
        assert_eq!(total, 1_000);
    }
    first.flush().await;
    assert_eq!(first.live("c").await.expect("is read"), 0);
}
