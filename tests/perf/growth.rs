//! What the registry's SQLite store costs at a thousand, ten thousand, … batches: the last of them
//! should cost what the first did.
//!
//! `cargo test --release --workspace --test growth` prints the table of docs/performance.md;
//! `SIZES="1000 100000"` takes others. A file is filled for each size, in the folder for temporary
//! files, and measured by a process of its own: whoever fills it leaves no memory behind.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use livy_dialect::Lookup;
use livy_gateway::clock::Moment;
use livy_gateway::registry::{
    GatewayId, NewRow, Recorded, SqliteStore, Store, StoreFuture, Visible,
};

/// How often a read is measured. What is told is the median.
const READS: usize = 400;

/// How often a write is.
const WRITES: usize = 100;

/// How many submissions arrive together.
const TOGETHER: usize = 64;

/// The page that clients ask for if they say nothing.
const PAGE: usize = 100;

/// Batches of five users at four clusters. A third has one of a thousand names; the last hundred run, of the others
/// one in twenty is deleted and one in fifty was refused.
const FILL: &str = r#"
    INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, upstream_id, state, app_id, app_info, log, complete,
        created_ms, created_up_ms, seen_ms, ended_ms, ended_up_ms, idempotency_hash, told, echoed, version)
    WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < ?1)
    SELECT 'cluster-' || (n % 4), 'route', printf('%08x-0000-7000-8000-%012x', n / 1000, n),
        printf('livy-gateway-%08x-0000-7000-8000-%012x', n / 1000, n), 'user-' || (n % 5),
        CASE WHEN n % 3 = 0 THEN 'job-' || (n % 1000) END,
        CASE WHEN n > ?1 - 100 THEN 'bound' WHEN n % 20 = 7 THEN 'deleted' WHEN n % 50 = 9 THEN 'refused' ELSE 'bound' END,
        CASE WHEN n % 50 <> 9 OR n > ?1 - 100 THEN n / 4 END, CASE WHEN n > ?1 - 100 THEN 'running' ELSE 'success' END,
        printf('application_1700000000000_%d', n),
        printf('{"driverLogUrl":"http://node-17.example.com:8042/node/containerlogs/container_1700000000000_%d_01_000001/livy","sparkUiUrl":null}', n),
        '["26/01/01 12:00:00 INFO Client: Application report for application (state: FINISHED)","	 client token: N/A","	 diagnostics: N/A"]',
        n <= ?1 - 100, n * 1000, n * 1000, n * 1000, CASE WHEN n <= ?1 - 100 THEN n * 1000 + 60000 END,
        CASE WHEN n <= ?1 - 100 THEN n * 1000 + 60000 END, lower(hex(randomblob(32))), 1, 1, 3
    FROM counter"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, path, size] = &arguments[..]
        && word == "measure"
    {
        measure(Path::new(path), size.parse().expect("is a number"));
        return ExitCode::SUCCESS;
    }
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "1000 10000 100000 1000000".to_owned());
    let sizes: Vec<usize> = sizes
        .split_whitespace()
        .map(|size| size.parse().expect("is a number"))
        .collect();
    let mut columns = Vec::new();
    for size in &sizes {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("registry.db");
        fill(&path, *size);
        let program = std::env::current_exe().expect("is a program");
        let output = Command::new(program)
            .arg("measure")
            .arg(&path)
            .arg(size.to_string())
            .output()
            .expect("runs");
        let told = String::from_utf8(output.stdout).expect("is text");
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        columns.push(told.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    let head: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    println!("| batches | {} | last against first |", head.join(" | "));
    println!("| --- |{}", " --- |".repeat(sizes.len() + 1));
    for at in 0..columns[0].len() {
        let cells: Vec<(&str, f64)> = columns.iter().map(|column| cell(&column[at])).collect();
        let values: Vec<String> = cells.iter().map(|(_, value)| shown(*value)).collect();
        let ratio = cells[cells.len() - 1].1 / cells[0].1;
        println!("| {} | {} | {ratio:.1}x |", cells[0].0, values.join(" | "));
    }
    ExitCode::SUCCESS
}

fn cell(line: &str) -> (&str, f64) {
    let (what, value) = line.split_once('\t').expect("has two parts");
    (what, value.parse().expect("is a number"))
}

fn shown(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn fill(path: &Path, size: usize) {
    drop(SqliteStore::open(path).expect("opens"));
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000")
        .expect("is set");
    let size = i64::try_from(size).expect("is a number");
    connection.execute(FILL, [size]).expect("is filled");
    let flushed = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(flushed.expect("is written"), 0);
}

fn measure(path: &Path, size: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let began = Instant::now();
    let store = SqliteStore::open(path).expect("opens");
    runtime.block_on(store.pending()).expect("is read");
    tell("open, ms", began.elapsed().as_secs_f64() * 1e3);
    tell("resident once open, MB", resident_mb());
    runtime.block_on(reads(&store, size));
    runtime.block_on(writes(&store));
    tell("resident afterwards, MB", resident_mb());
    runtime.block_on(store.close());
    let bytes = std::fs::metadata(path).expect("is there").len();
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    tell("file, MB", bytes as f64 / 1e6);
}

async fn reads(store: &SqliteStore, size: usize) {
    for (whose, visible) in [
        ("everybody's", Visible::All),
        ("one user's", Visible::OwnedBy("user-3".into())),
    ] {
        for (which, part) in [("first", 0), ("middle", 1), ("last", 2)] {
            // Not the same one each time: neighbours of it.
            let page = |round: usize| {
                let range = move |total: usize| {
                    let last = total.saturating_sub(PAGE);
                    let from = (last / 2 * part).saturating_add(round % 7).min(last);
                    from..from + PAGE.min(total)
                };
                store.list(visible.clone(), None, Vec::new(), Box::new(range))
            };
            let name = format!("list, {which} page of {whose}, µs");
            time(&name, READS, |round| page(round)).await;
        }
    }
    time("by id, µs", READS, |round| store.get(some_id(round, size))).await;
    time("by name, µs", READS, |round| {
        let name = round * 3 % 1000;
        let owner = Visible::OwnedBy(format!("user-{}", name % 5));
        store.by_name(format!("job-{name}"), owner)
    })
    .await;
    time("live of a cluster, µs", READS, |round| {
        store.live(format!("cluster-{}", round % 4))
    })
    .await;
}

async fn writes(store: &SqliteStore) {
    time("record, alone, µs", WRITES, |round| {
        store.record(submission(round), now(round))
    })
    .await;
    let mut rounds = Vec::new();
    for round in 0..WRITES / 4 {
        let began = Instant::now();
        let all: Vec<_> = (0..TOGETHER)
            .map(|at| store.record(submission(at), now(round)))
            .collect();
        let recorded = futures(all).await;
        assert!(recorded.iter().all(|one| matches!(one, Recorded::New(_))));
        rounds.push(began.elapsed());
    }
    tell(
        &format!("record, {TOGETHER} together, µs each"),
        micros(median(rounds)) / TOGETHER as f64,
    );
    let rows = futures(
        (1..=WRITES)
            .map(|id| store.get(some_id(id, 1000)))
            .collect(),
    )
    .await;
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    time("save, alone, µs", rows.len(), |round| {
        store.save(vec![rows[round].clone()])
    })
    .await;
}

/// Waits for all of them at once.
async fn futures<T>(all: Vec<StoreFuture<'_, T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| (one, None)).collect();
    std::future::poll_fn(|context| {
        for (one, value) in all.iter_mut().filter(|(_, value)| value.is_none()) {
            if let std::task::Poll::Ready(done) = one.as_mut().poll(context) {
                *value = Some(done.expect("is done"));
            }
        }
        match all.iter().all(|(_, value)| value.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, value)| value).collect()
}

/// Measures something many times, one after the other, and tells the median.
async fn time<'a, T>(what: &str, times: usize, work: impl Fn(usize) -> StoreFuture<'a, T>) {
    let mut all = Vec::new();
    for round in 0..times {
        let began = Instant::now();
        work(round).await.expect("is done");
        all.push(began.elapsed());
    }
    tell(what, micros(median(all)));
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn tell(what: &str, value: f64) {
    println!("{what}\t{value}");
}

/// Ids from all over the file, in no order.
fn some_id(round: usize, size: usize) -> GatewayId {
    let id = round.wrapping_mul(2_654_435_761) % size + 1;
    GatewayId(i32::try_from(id).expect("is an id"))
}

fn now(round: usize) -> Moment {
    let ms = 2_000_000_000_000 + i64::try_from(round).expect("is small");
    Moment {
        wall_ms: ms,
        up_ms: ms,
    }
}

fn submission(round: usize) -> NewRow {
    let key = uuid::Uuid::now_v7().to_string();
    NewRow {
        cluster: format!("cluster-{}", round % 4),
        route: "route".into(),
        lookup: Lookup {
            sent_name: Some(format!("livy-gateway-{key}")),
            key,
        },
        owner: Some(format!("user-{}", round % 5)),
        name: None,
        name_hold_ms: 0,
        body_hash: format!(
            "{}{}",
            uuid::Uuid::new_v4().simple(),
            uuid::Uuid::new_v4().simple()
        ),
        key: None,
        above: None,
        proxy_user: None,
        name_in_use: false,
        replaces: None,
        seen: 0,
    }
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("is told");
    let kib: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("is a number");
    kib / 1024.0
}
