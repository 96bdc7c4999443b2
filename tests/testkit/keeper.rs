//! A gateway that is killed, stopped and started again, always at the same address, on the same
//! files.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault_proxy::{FaultProxy, lasting_port};
use crate::process::{PATIENCE, binary};
use crate::scene::htpasswd;
use crate::wire::{Reply, Request, exchange};
use livy_gateway::sandbox::{INSTANCE, PASSWORD, TOKEN, USER};

/// How long `clusters.NAME.settle` is, where the gateway knows that key.
const SETTLE: &str = "settle: 500ms, ";

/// A gateway over plain HTTP: the suites that use it are about what becomes of submissions.
pub struct Keeper {
    /// Where it listens, in all its lives.
    pub address: SocketAddr,
    /// Where its admin listener is, in all its lives.
    pub admin: SocketAddr,
    folder: tempfile::TempDir,
    child: Mutex<Child>,
}

/// What is different from gateway to gateway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways<'a> {
    /// The line `registry:` of the configuration; empty for a file of its own.
    pub registry: &'a str,
    /// More of the line `server:`, each key with a comma before it.
    pub server: &'a str,
}

/// Returns keys of `clusters.NAME` that make proofs quick. Everything is as short as the suites can
/// bear: a create must outlast the slowest honest answer, and no more. `reading` says how old an
/// answer may be, and how long a batch may be silent.
pub fn quick(reading: &str) -> String {
    let settle = if schema().contains("\"settle\"") {
        SETTLE
    } else {
        ""
    };
    format!(
        "timeouts: {{connect: 1s, response: 2s, create_batch: 3s}}, {settle}{reading}, \
         health: {{interval: 500ms, timeout: 500ms, unhealthy_after: 3, healthy_after: 1}}"
    )
}

fn schema() -> String {
    let out = Command::new(binary())
        .arg("schema")
        .output()
        .expect("the binary starts");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Keeper {
    /// Starts a gateway whose clusters, each with a name and a flavor, are behind these proxies;
    /// `keys` are of every cluster.
    pub fn start(clusters: &[(&str, &str, &FaultProxy)], keys: &str) -> Keeper {
        Keeper::start_as(Ways::default(), clusters, keys)
    }

    /// The same with ways of its own.
    pub fn start_as(ways: Ways<'_>, clusters: &[(&str, &str, &FaultProxy)], keys: &str) -> Keeper {
        let Ways { registry, server } = ways;
        let admin = lasting_port().local_addr().expect("is bound");
        let folder = tempfile::tempdir().expect("a folder");
        let address = lasting_port().local_addr().expect("is bound");
        let mut yaml = format!(
            "allow_inline_secrets: true\nserver: {{listen: \"{address}\", plaintext: true, drain_timeout: 3s{server}}}\nadmin: {{listen: \"{admin}\"}}\n\
             {registry}\nadmin_users: [root]\nauthenticators: {{staff: {{basic: {{htpasswd_file: users.htpasswd}}}}}}\nclusters:\n"
        );
        for (name, flavor, proxy) in clusters {
            let (url, login) = (proxy.address(), login_of(flavor));
            yaml.push_str(&format!(
                "  {name}: {{flavor: {flavor}, url: \"http://{url}\", {login}{keys}}}\n"
            ));
        }
        let targets: Vec<String> = clusters
            .iter()
            .map(|(name, ..)| format!("{{cluster: {name}}}"))
            .collect();
        yaml.push_str(&format!(
            "routes:\n  - {{name: all, targets: [{}]}}\n",
            targets.join(", ")
        ));
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("is writable")
        };
        write("routes.yaml", &yaml);
        write("users.htpasswd", htpasswd());
        let child = spawn(&folder);
        let keeper = Keeper {
            address,
            admin,
            folder,
            child: Mutex::new(child),
        };
        keeper.wait_for_it();
        keeper
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("is a child");
        child.wait().expect("is a child");
    }

    /// Asks it to end; false if it had to be killed after all.
    pub fn terminate(&self, patience: Duration) -> bool {
        self.signal("-TERM");
        let mut child = self.child();
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if child.try_wait().expect("is a child").is_some() {
                return true;
            }
            std::thread::yield_now();
        }
        child.kill().expect("is a child");
        child.wait().expect("is a child");
        false
    }

    /// Sends it a signal, as `kill` takes it.
    pub fn signal(&self, signal: &str) {
        let id = self.child().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .expect("kill runs")
                .success()
        );
    }

    /// Starts it on the files of the one before.
    pub fn start_again(&self) {
        *self.child() = spawn(&self.folder);
        self.wait_for_it();
    }

    /// Tells whether anybody answers at its address.
    pub fn listens(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// Sends a request; `None` if no whole answer came, for whatever reason.
    pub fn ask(&self, request: &Request<'_>, limit: Duration) -> Option<Reply> {
        let stream = TcpStream::connect_timeout(&self.address, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        let reply = exchange(stream, &request.to_bytes());
        let whole = reply
            .header("content-length")
            .and_then(|said| said.parse().ok())
            .is_none_or(|said: usize| said == reply.body.len());
        (reply.status > 0 && whole).then_some(reply)
    }

    /// Returns everything that it logged, in all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(log_file(&self.folder)).expect("is readable"))
            .into_owned()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_it(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child().try_wait().expect("is a child");
            assert!(
                ended.is_none() && Instant::now() < until,
                "the gateway does not start ({ended:?}):\n{}",
                self.log()
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Returns the keys of `clusters.NAME` by which a gateway gets into a simulated cluster.
fn login_of(flavor: &str) -> String {
    match flavor {
        "livy" => String::new(),
        "ibm" => format!("instance_id: {INSTANCE}, credentials: {{bearer: {{token: {TOKEN}}}}}, "),
        _ => format!("credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}, "),
    }
}

fn log_file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("gateway.log")
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(folder))
        .expect("is writable");
    let mut command = Command::new(binary());
    command
        .arg("serve")
        .current_dir(folder.path())
        .env("LIVY_GATEWAY_LOG", "debug");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts")
}
