//! Round trips through real stores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::line::Line;
use super::line::tests::records;
use super::record::Record;
use super::*;

fn sqlite(folder: &Path, name: &str) -> checked::Registry {
    checked::Registry::Sqlite(folder.join(name))
}

async fn exported(config: &checked::Registry) -> String {
    let mut out = Vec::new();
    export(config, &mut out).await.expect("is read");
    String::from_utf8(out).expect("is text")
}

async fn imported(config: &checked::Registry, text: &str) -> Result<Imported, String> {
    let clusters = BTreeSet::new();
    import(config, &mut text.as_bytes(), "f", &clusters, 1_000, false).await
}

fn lines(records: &[Record]) -> String {
    let line = |record| serde_json::to_string(&Line::of(record)).expect("is JSON") + "\n";
    records.iter().map(line).collect()
}

/// Batches that can be in one registry: no id, place or key twice.
fn registries() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(records(), 0..12).prop_map(|records| {
        let (mut places, mut claims) = (BTreeSet::new(), BTreeSet::new());
        let mut by_id = BTreeMap::new();
        for record in records {
            let free = record.place().is_none_or(|place| places.insert(place))
                && record.claim().is_none_or(|claim| claims.insert(claim));
            if free {
                by_id.entry(record.id()).or_insert(record);
            }
        }
        by_id.into_values().collect()
    })
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_exported_is_imported_and_exported_the_same(records in registries()) {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (sqlite(folder.path(), "one.db"), sqlite(folder.path(), "other.db"));
        block(async {
            let first = imported(&one, &lines(&records)).await.expect("is written");
            assert_eq!(first.new, records.len() as u64);
            let text = exported(&one).await;
            assert!(text.ends_with(&lines(&records)), "{text}");
            imported(&other, &text).await.expect("is written");
            assert_eq!(exported(&other).await, text);
            let again = imported(&other, &text).await.expect("is read");
            assert_eq!((again.new, again.newer, again.same), (0, 0, records.len() as u64));
            assert_eq!(exported(&other).await, text, "the same file twice changes nothing");
        });
    }
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "needs a server: tests/with-postgres.sh cargo test --lib registry:: -- --include-ignored"]
fn from_sqlite_to_postgres_and_back() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let folder = tempfile::tempdir().expect("a folder");
    let mut runner = TestRunner::deterministic();
    for round in 0..8 {
        let records = registries()
            .new_tree(&mut runner)
            .expect("is made")
            .current();
        let one = sqlite(folder.path(), &format!("one{round}.db"));
        let back = sqlite(folder.path(), &format!("back{round}.db"));
        block(async {
            let (store, database) = crate::registry::postgres::tests::database()
                .await
                .expect("LIVY_GATEWAY_TEST_POSTGRES names a server");
            store.close().await;
            let database = checked::Registry::Postgres(Box::new(database));
            let head = "{\"livy_gateway_registry\":1,\"batches\":N,\"highest_id\":2147480000,\"uptime_ms\":9999999999,\"orders\":[{\"cluster\":\"c\",\"wish\":\"drain\",\"since_ms\":3,\"by\":\"ann\"}]}\n";
            let head = head.replace('N', &records.len().to_string());
            imported(&one, &(head + &lines(&records)))
                .await
                .expect("is written");
            let text = exported(&one).await;
            imported(&database, &text).await.expect("is written");
            assert_eq!(exported(&database).await, text);
            let again = imported(&database, &text).await.expect("is read");
            assert_eq!(
                (again.new, again.newer, again.same),
                (0, 0, records.len() as u64)
            );
            imported(&back, &exported(&database).await)
                .await
                .expect("is written");
            assert_eq!(exported(&back).await, text);
        });
    }
}
