//! A gateway of a test, and a client that talks TLS to it.
//!
//! Every answer and every log line of every gateway is searched for secrets; whichever test made
//! one leak is the one that fails.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clusters::{Clusters, FLAVORS};
use crate::process::{PATIENCE, Process, binary};
use crate::scene::Scene;
use crate::secrets::{ALICE, assert_no_secrets};
use crate::wire::{Reply, Request, exchange, over_tls, tls_config};

impl Scene {
    /// Writes the files, and starts a gateway on them.
    pub fn start(self) -> Gateway {
        self.write();
        self.start_as_written()
    }

    /// Starts with the files as they are now.
    pub fn start_as_written(self) -> Gateway {
        let config = self.folder.path().join("routes.yaml");
        Gateway::start(self, &config)
    }
}

/// Runs `serve` on a folder's `routes.yaml` with a limit as `ulimit` takes it; returns the
/// addresses that it and its admin listener listen on.
pub fn serve_with_limit(folder: &Path, limit: &str) -> (Process, SocketAddr, SocketAddr) {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit {limit}; exec \"$0\" serve"),
            binary(),
        ])
        .current_dir(folder);
    let process = Process::start(command, false);
    let (listen, admin) = process.wait_for("the listening addresses", addresses);
    (process, listen, admin)
}

/// Reads the line that says where a gateway listens, and where its admin listener does.
pub fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some((
        line["listen"].as_str()?.parse().ok()?,
        line["admin"].as_str()?.parse().ok()?,
    ))
}

/// Gets something of an admin listener; status 0 if it did not answer.
pub fn admin(address: SocketAddr, path: &str) -> Reply {
    ask_admin(address, &Request::get(path))
}

fn ask_admin(address: SocketAddr, request: &Request<'_>) -> Reply {
    let stream = TcpStream::connect(address).expect("the admin listener listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("is a socket");
    exchange(stream, &request.to_bytes())
}

/// Runs `serve` on a folder's `routes.yaml`; returns the address that it listens on.
pub fn serve(folder: &Path) -> (Process, SocketAddr) {
    let mut command = Command::new(binary());
    command.arg("serve").current_dir(folder);
    let process = Process::start(command, false);
    let address = process.wait_for("the listening address", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["listen"].as_str()?.parse().ok()
    });
    (process, address)
}

/// A running gateway.
pub struct Gateway {
    /// The running program.
    pub process: Process,
    /// What it was started on.
    pub scene: Scene,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its admin listener does.
    pub admin: SocketAddr,
}

impl Gateway {
    fn start(scene: Scene, config: &Path) -> Gateway {
        let mut command = Command::new(binary());
        command
            .args(["serve", "-c"])
            .arg(config)
            .env("LIVY_GATEWAY_LOG", "debug")
            .envs(scene.environment.iter().cloned());
        let process = Process::start(command, false);
        let (address, admin) = process.wait_for("the listening addresses", addresses);
        Gateway {
            process,
            scene,
            address,
            admin,
        }
    }

    /// Five clusters behind one gateway with default settings.
    pub fn over(clusters: &Clusters) -> Gateway {
        Scene::new(clusters).start()
    }

    /// Kills it as `kill -9` does, and starts another one on the same files.
    pub fn killed_and_restarted(mut self) -> Gateway {
        if self.process.is_running() {
            self.process.signal("-KILL");
            self.process.ended();
        }
        let nothing = Scene {
            folder: tempfile::tempdir().expect("a folder"),
            clusters: String::new(),
            routes: String::new(),
            server: String::new(),
            top: String::new(),
            authenticators: String::new(),
            passwords: String::new(),
            environment: Vec::new(),
        };
        let scene = std::mem::replace(&mut self.scene, nothing);
        drop(self);
        scene.start()
    }

    /// Sends a request over TLS.
    #[track_caller]
    pub fn send(&self, request: &Request<'_>) -> Reply {
        let reply = exchange(self.tls(&[b"http/1.1"]), &request.to_bytes());
        assert_no_secrets("an answer", &reply.whole());
        reply
    }

    /// Sends a request to a gateway that may be dying; `None` if it did not answer.
    pub fn try_send(&self, request: &[u8]) -> Option<Reply> {
        let tcp = TcpStream::connect(self.address).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).ok()?;
        let reply = exchange(over_tls(tcp, self.client_config(&[b"http/1.1"])), request);
        (reply.status > 0).then_some(reply)
    }

    /// Opens a TLS connection.
    pub fn tls(&self, alpn: &[&[u8]]) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        over_tls(self.tcp(), self.client_config(alpn))
    }

    /// Opens a connection.
    pub fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).expect("the gateway listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("is a socket");
        tcp
    }

    /// Makes the TLS of a client that trusts this gateway.
    pub fn client_config(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        tls_config(&self.scene.folder.path().join("tls.crt"), alpn)
    }

    /// Asks as Alice.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(&Request::get(path).basic(ALICE))
    }

    /// Sends JSON as Alice.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&Request::post(path, body).basic(ALICE))
    }

    /// Deletes as Alice.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send(
            &Request {
                method: "DELETE",
                ..Request::get(path)
            }
            .basic(ALICE),
        )
    }

    /// Submits a job that runs for a while, and returns its id.
    #[track_caller]
    pub fn submit(&self, flavor: &str, more: &Value) -> i64 {
        let file = FLAVORS
            .iter()
            .find(|(name, _)| *name == flavor)
            .expect("is a flavor")
            .1;
        let mut body = json!({"file": file, "args": ["600"]});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let reply = self.post(&format!("/clusters/{flavor}/batches"), &body);
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["id"].as_i64().expect("an id")
    }

    /// Asks until the state fits; returns the states on the way.
    #[track_caller]
    pub fn wait_for_state(&self, id: i64, wanted: &str) -> Vec<String> {
        self.wait_longer_for_state(id, wanted, PATIENCE)
    }

    /// The same, for jobs that take their time.
    #[track_caller]
    pub fn wait_longer_for_state(&self, id: i64, wanted: &str, patience: Duration) -> Vec<String> {
        let until = Instant::now() + patience;
        let mut seen: Vec<String> = Vec::new();
        loop {
            let reply = self.get(&format!("/batches/{id}/state"));
            assert_eq!(reply.status, 200, "{}", reply.text());
            let state = reply.json()["state"].as_str().expect("a state").to_owned();
            if seen.last() != Some(&state) {
                seen.push(state.clone());
            }
            if state == wanted {
                return seen;
            }
            let ended = ["success", "dead", "killed", "error"].contains(&state.as_str());
            let log = || self.get(&format!("/batches/{id}/log?size=-1")).text();
            assert!(
                Instant::now() < until && !ended,
                "batch {id} never was {wanted}, but {seen:?}:\n{}",
                log()
            );
            std::thread::yield_now();
        }
    }

    /// Asks until something holds.
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Gateway) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < until,
                "it never held: {what}; the end of the gateway's log:\n{}",
                self.log_end()
            );
            std::thread::yield_now();
        }
    }

    /// Waits until a cluster of which nothing else is asked was probed so many times more: what the
    /// gateway does by itself has had its turn.
    #[track_caller]
    pub fn wait_for_probes(&self, clusters: &Clusters, flavor: &str, count: usize) {
        let until = clusters.requests(flavor).len() + count;
        self.wait_until("it goes on probing", |_| {
            clusters.requests(flavor).len() >= until
        });
    }

    /// Gets something of the admin listener.
    pub fn admin(&self, path: &str) -> Reply {
        admin(self.admin, path)
    }

    /// Tells the admin listener to do something.
    pub fn admin_post(&self, path: &str) -> Reply {
        let request = Request {
            method: "POST",
            ..Request::get(path)
        };
        ask_admin(self.admin, &request)
    }

    /// Returns the value of one series, 0 if there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    fn log_end(&self) -> String {
        let seen = self.process.seen.lock().expect("no panic holds it");
        seen[seen.len().saturating_sub(20)..].join("\n")
    }

    /// Returns everything that it logged.
    pub fn log(&self) -> String {
        self.process
            .seen
            .lock()
            .expect("no panic holds it")
            .join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_no_secrets("the log", &self.log());
            if TcpStream::connect(self.admin).is_ok() {
                assert_no_secrets("/metrics", &self.admin("/metrics").text());
                assert_no_secrets("/config", &self.admin("/config").text());
                assert_no_secrets("/clusters", &self.admin("/clusters").text());
            }
        }
    }
}
