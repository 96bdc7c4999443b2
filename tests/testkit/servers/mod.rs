//! The real servers: each in a folder and a process group of its own, on free loopback ports,
//! stopped with everything that it started.

pub mod front;
pub mod kerberos;
pub mod livy;
pub mod postgres;
pub mod yarn;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::root::root;
use crate::wire::{Request, exchange, over_tls, tls_config};

/// How long a server may take to come up on a busy machine.
const START: Duration = Duration::from_secs(120);

struct Packages {
    spark_home: PathBuf,
    python: PathBuf,
    livy_jars: PathBuf,
    knox: PathBuf,
    yarn_jars: PathBuf,
}

fn packages() -> Packages {
    let script = root().join("tests/real/fetch.sh");
    let out = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .expect("fetch.sh runs");
    assert!(
        out.status.success(),
        "the packages could not be fetched; the lines above say why"
    );
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let value = |name: &str| {
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        PathBuf::from(found.unwrap_or_else(|| panic!("fetch.sh did not say {name}: {text}")))
    };
    let venv = value("SPARK_VENV");
    let lib = std::fs::read_dir(venv.join("lib"))
        .expect("a venv")
        .next()
        .expect("one Python")
        .expect("is readable")
        .path();
    Packages {
        spark_home: lib.join("site-packages/pyspark"),
        python: venv.join("bin/python"),
        livy_jars: value("LIVY_JARS"),
        knox: value("KNOX"),
        yarn_jars: value("YARN_JARS"),
    }
}

/// A process group that is killed with its owner.
struct Group(Child);

/// Runs a program until the pipe on its own stdin ends, then kills the whole group: so a server
/// goes also when the tests are killed.
const UNTIL_ALONE: &str = r#""$@" < /dev/null & cat > /dev/null; kill -KILL 0"#;

impl Group {
    fn spawn(command: &Command, log: &Path) -> Group {
        let log = std::fs::File::create(log).expect("is writable");
        let mut guarded = Command::new("sh");
        guarded
            .args(["-c", UNTIL_ALONE, "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        guarded.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(folder) = command.get_current_dir() {
            guarded.current_dir(folder);
        }
        guarded
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .process_group(0);
        Group(guarded.spawn().expect("there is a shell"))
    }
}

impl Group {
    /// Kills it, as a crash of its machine does.
    fn kill(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns an address that nobody listens at. Its port lies below those that the system gives to
/// outgoing connections: one of these could take it before the server does, and whoever knocks in a
/// loop would even be connected to himself.
fn free_address() -> SocketAddr {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let at = (std::process::id()
            .wrapping_mul(101)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
            % COUNT;
        let port = u16::try_from(FIRST + at).expect("below 32,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("is bound");
        }
    }
}

/// Waits until a front asks for a login. That it listens is not enough: Knox tries its port out
/// first and leaves it again.
fn wait_for_challenge(address: SocketAddr, path: &str, ca_file: &Path, log: &Path) {
    let until = Instant::now() + START;
    let asks = |tcp: TcpStream| {
        exchange(
            over_tls(tcp, tls_config(ca_file, &[])),
            &Request::get(path).to_bytes(),
        )
        .status
            == 401
    };
    while !TcpStream::connect(address).is_ok_and(asks) {
        assert!(
            Instant::now() < until,
            "{address} never asked for a login:\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::yield_now();
    }
}

fn wait_for_port(address: SocketAddr, log: &Path) {
    let until = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        assert!(
            Instant::now() < until,
            "nothing listens at {address}:\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::yield_now();
    }
}

/// Java 17 closes what servers of older days open.
const OPENS: [&str; 16] = [
    "--add-exports",
    "java.base/sun.security.x509=ALL-UNNAMED",
    "--add-exports",
    "java.base/sun.security.pkcs=ALL-UNNAMED",
    "--add-exports",
    "java.naming/com.sun.jndi.ldap=ALL-UNNAMED",
    "--add-exports",
    "java.base/sun.security.util=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.lang=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.util=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.net=ALL-UNNAMED",
    "--add-opens",
    "java.base/sun.security.x509=ALL-UNNAMED",
];

/// Writes a Hadoop configuration file.
fn hadoop_xml(properties: &[(&str, String)]) -> String {
    let property = |(name, value): &(&str, String)| {
        format!("<property><name>{name}</name><value>{value}</value></property>")
    };
    format!(
        "<configuration>{}</configuration>",
        properties.iter().map(property).collect::<String>()
    )
}
