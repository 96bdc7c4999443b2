//! The matrix: real clients, unchanged, through the gateway to real servers; and `certify` on each
//! of them. Prints a table of server, client and operation; exit status 1 if a cell failed.
//!
//!     cargo test --test matrix
//!     cargo test --test matrix -- --only kyuubi                              (some of livy, yarn, knox, hdinsight, ibm, kyuubi)
//!     cargo test --test matrix -- --serve livy|livy-on-yarn|knox|hdinsight      (starts that server alone, to be tried by hand)
//!     cargo test --test matrix -- --kyuubi http://127.0.0.1:10099 [--kyuubi-user USER:PASSWORD] [--kyuubi-jobs FOLDER]
//!
//! Real are Apache Livy, alone and on Hadoop YARN, Apache Knox before it, and nginx in the place of
//! HDInsight's gateway. Kyuubi is not in the registries: without `--kyuubi` its double stands in
//! for it; with it, the recorded scenario is played on the real one as well. IBM Analytics Engine
//! can't be run.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod serve;
mod table;
mod wish;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use livy_gateway::sandbox::{INSTANCE, PASSWORD, TOKEN, USER};
use table::{Cell, Table};
use testkit::scenario::{KYUUBI_DOUBLE, Target, differences, recorded, script};
use testkit::servers::front::{Front, hdinsight_front, knox_front};
use testkit::servers::livy::{Livy, LivySetup};
use testkit::servers::yarn::Yarn;
use testkit::{ALICE, Clusters, Gateway, Request, Scene, binary, exchange};
use wish::{Kyuubi, USAGE, Wish};

const OK: &str = "ok";

/// The files of the jobs, as a cluster sees them.
struct Jobs {
    light: String,
    pyspark: String,
    jvm: String,
    certify: String,
    /// Whether they really run, so that their output can be looked for.
    real: bool,
}

impl Jobs {
    fn of(livy: &Livy) -> Jobs {
        livy.jvm_job();
        Jobs::below(&livy.jobs())
    }

    fn below(folder: &str) -> Jobs {
        let at = |name: &str| format!("{}/{name}", folder.trim_end_matches('/'));
        Jobs {
            light: at("light.py"),
            pyspark: at("job.py"),
            jvm: at("pi.jar"),
            certify: at("certify.py"),
            real: true,
        }
    }

    fn simulated(scheme: &str) -> Jobs {
        let at = |name: &str| format!("{scheme}/jobs/{name}");
        Jobs {
            light: at("light.py"),
            pyspark: at("pi.py"),
            jvm: at("pi.jar"),
            certify: at("certify.py"),
            real: false,
        }
    }
}

fn main() -> ExitCode {
    let wish = match Wish::read(std::env::args().skip(1)) {
        Ok(Wish::Serve(server)) => return serve::until_told(server),
        Ok(Wish::Matrix(matrix)) => matrix,
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test matrix -- {USAGE}");
            return ExitCode::from(2);
        }
    };
    let python = clients();
    let only = |server: &str, run: &dyn Fn() -> Vec<Cell>| {
        let wanted = wish.only.is_empty() || wish.only.iter().any(|word| word == server);
        if wanted { run() } else { Vec::new() }
    };
    // Two at a time: a job of Spark's takes a core, and CI has two.
    let cells: Vec<Cell> = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            [
                only("livy", &|| bare_livy(&python)),
                only("hdinsight", &|| nginx(&python)),
            ]
            .concat()
        });
        let other = scope.spawn(|| {
            let kyuubi = || with_kyuubi(&python, wish.kyuubi.as_ref());
            [
                only("yarn", &on_yarn),
                only("knox", &|| knox(&python)),
                only("ibm", &|| ibm(&python)),
                only("kyuubi", &kyuubi),
            ]
            .concat()
        });
        [one, other]
            .into_iter()
            .flat_map(|lane| lane.join().expect("a lane that panics has said why"))
            .collect()
    });
    let table = Table::new(cells);
    println!("{table}");
    if table.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Fetches the clients; returns the Python that has them.
fn clients() -> String {
    let out = Command::new(folder().join("fetch.sh"))
        .stderr(Stdio::inherit())
        .output()
        .expect("fetch.sh runs");
    assert!(
        out.status.success(),
        "the clients could not be fetched; the lines above say why"
    );
    String::from_utf8(out.stdout)
        .expect("UTF-8")
        .trim()
        .to_owned()
}

/// A gateway with one cluster.
fn gateway_to(cluster: &str) -> Gateway {
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    scene.clusters = format!("  real: {{{cluster}}}\n");
    scene
        .with_routes("  - {name: all, targets: [{cluster: real}]}\n")
        .start()
}

fn bare_livy(python: &str) -> Vec<Cell> {
    let livy = Livy::start();
    let jobs = Jobs::of(&livy);
    let url = format!("http://{}", livy.address);
    let alone = certify(
        "Livy 0.7.1, no gateway",
        &url,
        &["--profile", "apache-livy", "--job", &jobs.certify],
    );
    table::assert_page_is_true(&url, &alone.text);
    let gateway = gateway_to(&format!("flavor: livy, url: \"{url}\""));
    [alone.cells, walk("Livy 0.7.1", &gateway, python, &jobs)].concat()
}

/// On YARN a job takes a quarter of a minute to start: one client must do, the one that looks at
/// everything.
fn on_yarn() -> Vec<Cell> {
    let yarn = Yarn::start();
    let livy = Livy::set_up(&LivySetup {
        yarn: Some(&yarn),
        ..LivySetup::default()
    });
    let gateway = gateway_to(&format!("flavor: livy, url: \"http://{}\"", livy.address));
    certify_through("Livy 0.7.1 on YARN", &gateway, &Jobs::below(&livy.jobs()))
}

fn knox(python: &str) -> Vec<Cell> {
    behind("Knox 2.0.0 + Livy", python, knox_front)
}

fn nginx(python: &str) -> Vec<Cell> {
    behind("HDInsight (nginx)", python, hdinsight_front)
}

fn behind(server: &str, python: &str, front: fn(&Livy) -> Front) -> Vec<Cell> {
    let livy = Livy::start();
    let jobs = Jobs::of(&livy);
    let front = front(&livy);
    walk(server, &gateway_to(&front.yaml), python, &jobs)
}

fn ibm(python: &str) -> Vec<Cell> {
    let clusters = Clusters::start();
    let bearer = format!("credentials: {{bearer: {{token: {TOKEN}}}}}");
    let gateway = gateway_to(&format!(
        "flavor: ibm, url: \"http://{}\", instance_id: {INSTANCE}, {bearer}",
        clusters.address
    ));
    walk(
        "IBM (double)",
        &gateway,
        python,
        &Jobs::simulated("cos://bucket.service"),
    )
}

/// A real Kyuubi, or its double.
fn with_kyuubi(python: &str, real: Option<&Kyuubi>) -> Vec<Cell> {
    if let Some(kyuubi) = real {
        return real_kyuubi(python, kyuubi);
    }
    let clusters = Clusters::start();
    let basic = format!("credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}");
    let gateway = gateway_to(&format!(
        "flavor: kyuubi, url: \"http://{}\", {basic}",
        clusters.address
    ));
    walk(
        "Kyuubi 1.12 (double)",
        &gateway,
        python,
        &Jobs::simulated("hdfs://"),
    )
}

fn real_kyuubi(python: &str, kyuubi: &Kyuubi) -> Vec<Cell> {
    // Any Livy's folder has the job files; one that runs elsewhere has been given copies.
    let livy = kyuubi.jobs.is_none().then(Livy::start);
    let jobs = match (&livy, &kyuubi.jobs) {
        (Some(livy), _) => Jobs::of(livy),
        (None, folder) => Jobs::below(folder.as_deref().unwrap_or_default()),
    };
    let login = kyuubi.login.as_ref().map(|(user, password)| {
        format!(", credentials: {{basic: {{username: {user}, password: {password}}}}}")
    });
    let gateway = gateway_to(&format!(
        "flavor: kyuubi, url: \"{}\", act_as: service{}",
        kyuubi.url,
        login.unwrap_or_default()
    ));
    // First, for what the clients submit would be listed.
    let mut cells = vec![kyuubi_as_recorded(kyuubi, &jobs)];
    cells.extend(walk("Kyuubi (real)", &gateway, python, &jobs));
    cells
}

/// Plays the recorded scenario on a real Kyuubi: one that was not used before answers as its
/// version was recorded to.
fn kyuubi_as_recorded(kyuubi: &Kyuubi, jobs: &Jobs) -> Cell {
    let authority = kyuubi.url.trim_start_matches("http://");
    let address = std::net::ToSocketAddrs::to_socket_addrs(authority)
        .ok()
        .and_then(|mut all| all.next())
        .expect("--kyuubi is http://HOST:PORT");
    let folder = jobs.light.trim_end_matches("light.py").to_owned();
    let target = Target {
        address,
        ca_file: None,
        base: "/api/v1".into(),
        recorded_base: "/api/v1",
        login: kyuubi.login.clone(),
        words: vec![
            ("/jobs/".to_owned(), folder),
            (
                r#""args": ["25"]"#.to_owned(),
                r#""args": ["2"]"#.to_owned(),
            ),
        ],
    };
    let stream = std::net::TcpStream::connect(address).expect("the Kyuubi listens");
    let mut version = Request::get("/api/v1/version").header("Accept", "application/json");
    if let Some((user, password)) = &kyuubi.login {
        version = version.basic((user, password));
    }
    let old = exchange(stream, &version.to_bytes())
        .text()
        .contains("1.10");
    let steps = script(if old {
        "kyuubi-1.10.2"
    } else {
        "kyuubi-1.12.0"
    });
    let found = differences(
        &steps,
        &recorded(&steps),
        &target.play(&steps),
        &KYUUBI_DOUBLE,
    );
    found
        .iter()
        .for_each(|line| eprintln!("Kyuubi, otherwise than recorded: {line}"));
    let differ = || {
        format!(
            "{} differences, told above; one that was used before lists more",
            found.len()
        )
    };
    let verdict = if found.is_empty() {
        OK.to_owned()
    } else {
        differ()
    };
    Cell::new("Kyuubi (real)", "recorded scenario", "poll", &verdict)
}

/// Every client, one after the other, through one gateway.
fn walk(server: &str, gateway: &Gateway, python: &str, jobs: &Jobs) -> Vec<Cell> {
    let url = format!("https://localhost:{}", gateway.address.port());
    let ca = gateway
        .scene
        .folder
        .path()
        .join("tls.crt")
        .display()
        .to_string();
    let mut cells = Vec::new();
    for script in ["airflow_livy.py", "pylivy.py"] {
        let mut command = Command::new(python);
        command
            .args(["-W", "ignore"])
            .arg(folder().join(script))
            .args([&url, ALICE.0, ALICE.1, &ca, &jobs.light]);
        cells.extend(run(server, script, &mut command));
    }
    let mut curl = Command::new(folder().join("curl.sh"));
    curl.args([
        &url,
        ALICE.0,
        ALICE.1,
        &ca,
        &jobs.light,
        &jobs.pyspark,
        &jobs.jvm,
    ]);
    if jobs.real && !server.starts_with("Kyuubi") {
        curl.env("PYSPARK_SAYS", "^tick 0$")
            .env("JVM_SAYS", "^Pi is roughly 3");
    }
    cells.extend(run(server, "curl", &mut curl));
    cells.extend(certify_through(server, gateway, jobs));
    cells
}

fn certify_through(server: &str, gateway: &Gateway, jobs: &Jobs) -> Vec<Cell> {
    let url = format!("https://localhost:{}", gateway.address.port());
    let ca = gateway
        .scene
        .folder
        .path()
        .join("tls.crt")
        .display()
        .to_string();
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    certify(
        server,
        &url,
        &[
            "--profile",
            "gateway",
            "--user",
            &user,
            "--ca",
            &ca,
            "--job",
            &jobs.certify,
        ],
    )
    .cells
}

/// Runs a client's script and reads its cells.
fn run(server: &str, client: &str, command: &mut Command) -> Vec<Cell> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .expect("the client runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let cells: Vec<Cell> = text
        .lines()
        .filter_map(|line| Cell::read(server, line))
        .collect();
    if cells.is_empty() || cells.iter().any(|cell| cell.verdict != OK) {
        eprintln!(
            "--- {server}, {client}:\n{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    if cells.is_empty() {
        vec![Cell::new(
            server,
            client,
            "submit",
            "it said nothing; its output stands above",
        )]
    } else {
        cells
    }
}

struct Certified {
    cells: Vec<Cell>,
    /// The table that it printed.
    text: String,
}

/// What each operation's column stands for in a report.
const AREAS: [(&str, &[&str]); 7] = [
    ("submit", &["submit", "refuse"]),
    ("poll", &["state", "batch", "http"]),
    ("log", &["log"]),
    ("list", &["list"]),
    ("kill", &["kill"]),
    ("failing", &["state.dead"]),
    ("auth", &["auth"]),
];

/// Certifies an endpoint; a cell for each operation, of all checks that are about it.
fn certify(server: &str, url: &str, more: &[&str]) -> Certified {
    let out = Command::new(binary())
        .args(["certify", url])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("certify runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        eprintln!(
            "--- {server}, certify:\n{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let verdicts: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(verdict, _)| ["passed", "failed", "skipped"].contains(verdict))
        .filter_map(|(verdict, rest)| Some((verdict, rest.split_whitespace().next()?)))
        .collect();
    let cell = |(operation, areas): (&str, &[&str])| {
        let about = |id: &str| {
            areas
                .iter()
                .any(|area| id == *area || id.split('.').next() == Some(area))
        };
        let count = |wanted: &str| {
            verdicts
                .iter()
                .filter(|(verdict, id)| *verdict == wanted && about(id))
                .count()
        };
        let verdict = match (count("passed"), count("failed")) {
            (0, 0) => return None,
            (_, 0) => OK.to_owned(),
            (_, failed) => format!("{failed} checks failed, told above"),
        };
        Some(Cell::new(server, "certify", operation, &verdict))
    };
    let mut cells: Vec<Cell> = AREAS.into_iter().filter_map(cell).collect();
    if cells.is_empty() || (!out.status.success() && cells.iter().all(|cell| cell.verdict == OK)) {
        cells.push(Cell::new(
            server,
            "certify",
            "submit",
            "it failed; its output stands above",
        ));
    }
    Certified { cells, text }
}
