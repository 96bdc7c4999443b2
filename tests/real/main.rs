//! A real Apache Livy with a real Spark, through the gateway, over TLS.
//!
//! Each test starts a Livy of its own (three seconds) on a free loopback port, in a folder of its own, and stops it with everything that it
//! started. `fetch.sh` brings the packages, into a cache outside the tree.

#[expect(dead_code, reason = "shared with the other suite, which uses all of it")]
#[path = "../blackbox/harness.rs"]
mod harness;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{ALICE, BOB, Clusters, Gateway, Request, Scene, exchange};
use serde_json::{Value, json};

/// A Spark job takes ten seconds on an idle machine; a CI machine is not idle.
const JOB: Duration = Duration::from_secs(180);

/// Prints one line a second, for as many seconds as its argument says; fails if it is told to.
const JOB_PY: &str = r#"
import sys, time
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("livy-gateway test").getOrCreate()
print("sum", spark.range(1000).selectExpr("sum(id)").first()[0], flush=True)
for tick in range(int(sys.argv[1])):
    print("tick", tick, flush=True)
    time.sleep(1)
if len(sys.argv) > 2:
    raise RuntimeError("told to fail: " + sys.argv[2])
spark.stop()
"#;

struct Packages {
    spark_home: PathBuf,
    python: PathBuf,
    livy_jars: PathBuf,
}

fn packages() -> Packages {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/fetch.sh");
    let out = Command::new(script).stderr(Stdio::inherit()).output().expect("fetch.sh runs");
    assert!(out.status.success(), "the packages could not be fetched; the lines above say why");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let value = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        PathBuf::from(found.unwrap_or_else(|| panic!("fetch.sh did not say {name}: {text}")))
    };
    let venv = value("SPARK_VENV");
    let lib = std::fs::read_dir(venv.join("lib")).expect("a venv").next().expect("one Python").expect("is readable").path();
    Packages { spark_home: lib.join("site-packages/pyspark"), python: venv.join("bin/python"), livy_jars: value("LIVY_JARS") }
}

/// A Livy in a process group of its own, for it starts a spark-submit for every batch.
struct Livy {
    child: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Livy {
    fn start() -> Livy {
        let packages = packages();
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("is bound");
        let at = |name: &str| folder.path().join(name);
        for name in ["conf", "logs", "jobs"] {
            std::fs::create_dir(at(name)).expect("is writable");
        }
        std::fs::write(at("jobs/job.py"), JOB_PY).expect("is writable");
        let conf = format!(
            "livy.server.host = 127.0.0.1\nlivy.server.port = {}\nlivy.spark.master = local[1]\nlivy.spark.deploy-mode = client\n\
             livy.file.local-dir-whitelist = {}\nlivy.server.csrf-protection.enabled = true\nlivy.repl.enable-hive-context = false\n\
             livy.ui.enabled = false\n",
            address.port(),
            at("jobs").display()
        );
        std::fs::write(at("conf/livy.conf"), conf).expect("is writable");
        let log = std::fs::File::create(at("logs/livy.out")).expect("is writable");
        let child = Command::new("java")
            .arg("-cp")
            .arg(format!("{}:{}/*", at("conf").display(), packages.livy_jars.display()))
            .arg("org.apache.livy.server.LivyServer")
            .env("LIVY_HOME", folder.path())
            .env("LIVY_CONF_DIR", at("conf"))
            .env("SPARK_HOME", &packages.spark_home)
            .env("PYSPARK_PYTHON", &packages.python)
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("java starts");
        let livy = Livy { child, folder, address };
        livy.wait_until_ready();
        livy
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            if let Ok(stream) = TcpStream::connect(self.address)
                && exchange(stream, &Request::get("/batches").to_bytes()).status == 200
            {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.path().join("logs/livy.out")).unwrap_or_default();
            assert!(Instant::now() < until, "Livy did not come up:\n{}", log());
            std::thread::yield_now();
        }
    }

    fn job(&self) -> String {
        self.folder.path().join("jobs/job.py").display().to_string()
    }

    /// Asks the Livy itself.
    fn direct(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).expect("Livy listens");
        exchange(stream, &Request::get(path).to_bytes()).json()
    }
}

impl Drop for Livy {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

fn gateway_over(livy: &Livy) -> Gateway {
    // The scene wants clusters to take its names from; the real one stands in the place of the simulated Livy.
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    scene.clusters = format!("  livy: {{flavor: livy, url: \"http://{}\", freshness: 0s}}\n", livy.address);
    scene.with_routes("  - {name: all, targets: [{cluster: livy}]}\n").start()
}

fn submit(gateway: &Gateway, livy: &Livy, args: &[&str], name: &str) -> i64 {
    let body = json!({"file": livy.job(), "args": args, "name": name, "conf": {"spark.ui.enabled": false}, "driverMemory": "512m"});
    let reply = gateway.post("/batches", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_i64().expect("an id")
}

fn log_lines(gateway: &Gateway, id: i64, query: &str) -> (i64, i64, Vec<String>) {
    let page = gateway.get(&format!("/batches/{id}/log{query}")).json();
    let lines = page["log"].as_array().expect("a list").iter().map(|line| line.as_str().expect("a text").to_owned()).collect();
    (page["from"].as_i64().expect("a number"), page["total"].as_i64().expect("a number"), lines)
}

#[test]
fn a_pyspark_job_runs_to_success_and_its_log_is_read_in_pages() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["2"], "real-ok");
    let states = gateway.wait_longer_for_state(id, "success", JOB);
    assert!(states.iter().all(|state| ["starting", "running", "success"].contains(&state.as_str())), "{states:?}");
    let (_, total, all) = log_lines(&gateway, id, "?from=0&size=-1");
    assert_eq!(i64::try_from(all.len()).ok(), Some(total));
    for wanted in ["stdout: ", "sum 499500", "tick 0", "tick 1", "\nstderr: "] {
        assert!(all.iter().any(|line| line == wanted), "{wanted:?} is not in {all:#?}");
    }
    // Page by page, the way Airflow does and the way a cursor does, it is the same log.
    let mut paged = Vec::new();
    while i64::try_from(paged.len()).expect("small") < total {
        let (from, _, lines) = log_lines(&gateway, id, &format!("?from={}&size=7", paged.len()));
        assert_eq!(usize::try_from(from).ok(), Some(paged.len()));
        paged.extend(lines);
    }
    assert_eq!(paged, all);
    // Where a real Livy overflows and returns nothing, the rest is returned.
    assert_eq!(log_lines(&gateway, id, "?from=1&size=2147483647").2, all[1..]);
    let (_, _, tail) = log_lines(&gateway, id, "?size=2");
    assert_eq!(tail, all[all.len() - 2..]);
    let item = gateway.get(&format!("/batches/{id}")).json();
    assert_eq!((item["state"].as_str(), item["name"].as_str(), item["owner"].as_str()), (Some("success"), Some("real-ok"), Some("alice")));
    assert_eq!(item["log"].as_array().map(Vec::len), Some(10));
    assert_eq!(gateway.get("/batches/real-ok").json()["id"], id);
}

#[test]
fn a_failing_job_is_dead() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["0", "on purpose"], "real-bad");
    gateway.wait_longer_for_state(id, "dead", JOB);
    let (_, _, log) = log_lines(&gateway, id, "?size=-1");
    assert!(log.iter().any(|line| line.contains("told to fail: on purpose")), "{log:#?}");
}

#[test]
fn a_running_job_is_killed_and_lists_are_true() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["600"], "real-long");
    gateway.wait_longer_for_state(id, "running", JOB);
    let list = gateway.get("/batches").json();
    assert_eq!((list["total"].as_i64(), list["sessions"][0]["id"].as_i64()), (Some(1), Some(id)));
    assert_eq!(gateway.send(&Request::get("/batches").basic(BOB)).json()["total"], 0);
    assert_eq!(livy.direct("/batches")["total"], 1);
    let taken = gateway.post("/batches", &json!({"file": livy.job(), "name": "real-long"}));
    taken.error(400, "duplicate_name");
    let killed = gateway.delete(&format!("/batches/{id}"));
    assert_eq!((killed.status, killed.json()["msg"].as_str()), (200, Some("deleted")), "{}", killed.text());
    assert_eq!(livy.direct("/batches")["total"], 0, "it is gone at the Livy as well");
    gateway.get(&format!("/batches/{id}/state")).error(404, "not_found");
    assert_eq!(gateway.get("/batches").json()["total"], 0);
}

#[test]
fn refusals_of_a_real_livy_leave_no_ghost() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let told = gateway.post("/batches", &json!({"file": "/etc/passwd", "name": "ghost"})).error(400, "upstream_rejected");
    assert!(told.contains("cannot be added to user sessions"), "{told}");
    assert_eq!(livy.direct("/batches")["total"], 0, "the ghost was removed");
    let request = Request::post("/batches", &json!({"file": "/etc/passwd"})).basic(ALICE);
    gateway.send(&request).error(400, "upstream_rejected");
    assert_eq!(livy.direct("/batches")["total"], 0, "also the one without a name");
}
