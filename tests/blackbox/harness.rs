//! The scene of a black-box test: simulated clusters in front of which the real binary runs, and a
//! client that talks TLS to it.
//!
//! Every answer and every log line of every gateway is searched for secrets; whichever test made
//! one leak is the one that fails.

#[path = "wire.rs"]
mod wire;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use livy_gateway::sandbox::{INSTANCE, PASSWORD, TOKEN, USER};
use serde_json::{Value, json};

pub(crate) use wire::*;

/// How long anything may take that should take moments.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef-test-only";
pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "livy-gateway";
pub(crate) const ALICE: (&str, &str) = ("alice", "alices-password");
pub(crate) const BOB: (&str, &str) = ("bob", "bobs-password");
pub(crate) const ROOT: (&str, &str) = ("root", "roots-password");
/// What every secret of the token endpoint's tests begins with.
pub(crate) const ENDPOINT_SECRET: &str = "issued-secret";
/// A credential-like value of a submission's `conf`.
pub(crate) const CONF_SECRET: &str = "conf-secret-key-value";

/// What must never be seen outside a request that brought it.
const SECRETS: [&str; 9] = [
    ENDPOINT_SECRET,
    PASSWORD,
    TOKEN,
    JWT_SECRET,
    ALICE.1,
    BOB.1,
    CONF_SECRET,
    "KNOXSESSIONID",
    "rememberMe",
];

/// Flavors with a job file that suits each.
pub(crate) const FLAVORS: [(&str, &str); 5] = [
    ("livy", "hdfs:///jobs/pi.py"),
    ("knox", "hdfs:///jobs/pi.py"),
    ("hdinsight", "wasbs:///jobs/pi.py"),
    ("ibm", "cos://jobs.store/pi.py"),
    ("kyuubi", "hdfs:///jobs/pi.py"),
];

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_livy-gateway")
}

/// Runs the binary to its end: status, stdout, stderr.
pub(crate) fn run(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let out = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (
        out.status.code().unwrap_or(-1),
        text(out.stdout),
        text(out.stderr),
    )
}

#[track_caller]
pub(crate) fn assert_no_secrets(what: &str, text: &str) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for secret in SECRETS
        .iter()
        .copied()
        .chain([encoded.as_str(), "WWW-Authenticate: BASIC"])
    {
        assert!(
            !text.contains(secret),
            "{what} shows the secret {secret:?}:\n{text}"
        );
    }
}

/// A child process that ends with its owner, and the lines that it prints.
pub(crate) struct Process {
    child: Child,
    pub(crate) lines: Mutex<Receiver<String>>,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(mut command: Command, from_stdout: bool) -> Process {
        let (out, err) = if from_stdout {
            (Stdio::piped(), Stdio::null())
        } else {
            (Stdio::null(), Stdio::piped())
        };
        let mut child = command
            .stdout(out)
            .stderr(err)
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let pipe: Box<dyn std::io::Read + Send> = if from_stdout {
            Box::new(child.stdout.take().expect("is piped"))
        } else {
            Box::new(child.stderr.take().expect("is piped"))
        };
        let (tell, lines) = channel();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                kept.lock().expect("no panic holds it").push(line.clone());
                let _ = tell.send(line);
            }
        });
        Process {
            child,
            lines: Mutex::new(lines),
            seen,
        }
    }

    /// Waits for a line that fits.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, fits: impl Fn(&str) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let lines = self.lines.lock().expect("no panic holds it");
        while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some(found) = fits(&line) {
                return found;
            }
        }
        panic!(
            "no line with {what}; there were:\n{}",
            self.seen.lock().expect("no panic holds it").join("\n")
        );
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_none()
    }

    /// Waits for the end, and returns the exit status.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("is a child") {
                return status.code();
            }
            assert!(Instant::now() < until, "the process did not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The simulated clusters, in a process of their own so that they outlive a gateway that is killed.
pub(crate) struct Clusters {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Clusters {
    pub(crate) fn start() -> Clusters {
        let mut command = Command::new(binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let process = Process::start(command, true);
        let address = process.wait_for("the clusters' address", |line| {
            line.strip_prefix("simulated clusters at http://")?
                .split(';')
                .next()?
                .parse()
                .ok()
        });
        Clusters {
            _process: process,
            address,
        }
    }

    fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let stream = TcpStream::connect(self.address).expect("the clusters listen");
        let request = Request {
            method,
            path: &format!("/_sandbox/{path}"),
            body: body.map(Value::to_string).map(String::into_bytes),
            ..Request::default()
        };
        let reply = exchange(stream, &request.to_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Makes the next request of an operation misbehave.
    pub(crate) fn fault(&self, flavor: &str, fault: Value) {
        self.control("POST", &format!("{flavor}/faults"), Some(&fault));
    }

    /// Ends all misbehaviour.
    pub(crate) fn heal(&self, flavor: &str) {
        self.control("DELETE", &format!("{flavor}/faults"), None);
    }

    pub(crate) fn restart(&self, flavor: &str) {
        self.control("POST", &format!("{flavor}/restart"), None);
    }

    /// Restarts a cluster as `sandbox::control::Restart` says.
    pub(crate) fn restart_with(&self, flavor: &str, how: &Value) {
        self.control("POST", &format!("{flavor}/restart"), Some(how));
    }

    /// Switches what a cluster shows, as `sandbox::control::Options` says.
    pub(crate) fn options(&self, flavor: &str, options: &Value) {
        self.control("POST", &format!("{flavor}/options"), Some(options));
    }

    /// Returns every job that a cluster ever had.
    pub(crate) fn books(&self, flavor: &str) -> Vec<Value> {
        self.control("GET", &format!("{flavor}/books"), None)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Sends a request to a cluster itself, past the gateway, with the login that it wants. `path`
    /// is below the base of the flavor's API.
    pub(crate) fn direct(
        &self,
        flavor: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        let stream = TcpStream::connect(self.address).expect("the clusters listen");
        let path = format!("{}{path}", base_of(flavor));
        let body = body.map(|body| body.to_string().into_bytes());
        let request = Request {
            method,
            path: &path,
            body,
            ..Request::default()
        }
        .header("Content-Type", "application/json")
        .header("X-Requested-By", "a test");
        let request = match flavor {
            "livy" => request,
            "ibm" => request.bearer(TOKEN),
            _ => request.basic((USER, PASSWORD)),
        };
        exchange(stream, &request.to_bytes())
    }

    /// Makes a cluster forget what has ended.
    pub(crate) fn collect(&self, flavor: &str) {
        self.control("POST", &format!("{flavor}/collect"), None);
    }

    /// Returns every request that a cluster got.
    pub(crate) fn requests(&self, flavor: &str) -> Vec<Value> {
        self.control("GET", &format!("{flavor}/requests"), None)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Returns how many submissions a cluster got.
    pub(crate) fn submissions(&self, flavor: &str) -> usize {
        self.requests(flavor)
            .iter()
            .filter(|request| request["method"] == "POST")
            .count()
    }

    /// Returns `routes.yaml` lines of the five clusters.
    pub(crate) fn yaml(&self) -> String {
        let at = self.address;
        let basic = format!("credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}");
        format!(
            "  livy: {{flavor: livy, url: \"http://{at}\"}}\n\
             \x20 knox: {{flavor: knox, url: \"http://{at}\", {basic}}}\n\
             \x20 hdinsight: {{flavor: hdinsight, url: \"http://{at}\", {basic}}}\n\
             \x20 ibm: {{flavor: ibm, url: \"http://{at}\", instance_id: {INSTANCE}, credentials: {{bearer: {{token: {TOKEN}}}}}}}\n\
             \x20 kyuubi: {{flavor: kyuubi, url: \"http://{at}\", {basic}}}\n"
        )
    }
}

/// Returns the path below which a simulated cluster serves its batches.
pub(crate) fn base_of(flavor: &str) -> String {
    match flavor {
        "livy" => String::new(),
        "knox" => "/gateway/default/livy/v1".to_owned(),
        "hdinsight" => "/livy".to_owned(),
        "ibm" => format!("/v3/analytics_engines/{INSTANCE}/livy"),
        "kyuubi" => "/api/v1".to_owned(),
        other => panic!("{other} is no flavor"),
    }
}

/// A gateway's configuration in the making.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clusters: String,
    pub(crate) routes: String,
    pub(crate) server: String,
    pub(crate) top: String,
    pub(crate) authenticators: String,
    /// More lines of the password file.
    pub(crate) passwords: String,
    /// More of the gateway's environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// bcrypt at its least cost: the tests are about logins, not about slowness.
pub(crate) fn htpasswd() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        [ALICE, BOB, ROOT]
            .map(|(user, password)| {
                format!("{user}:{}\n", bcrypt::hash(password, 4).expect("hashes"))
            })
            .concat()
    })
}

impl Scene {
    pub(crate) fn new(clusters: &Clusters) -> Scene {
        let targets = FLAVORS
            .map(|(name, _)| format!("{{cluster: {name}}}"))
            .join(", ");
        Scene {
            folder: tempfile::tempdir().expect("a folder"),
            clusters: clusters.yaml(),
            routes: format!("  - {{name: all, targets: [{targets}]}}\n"),
            server: String::new(),
            top: String::new(),
            authenticators: String::new(),
            passwords: String::new(),
            environment: Vec::new(),
        }
    }

    /// Adds a key to one cluster.
    pub(crate) fn with_cluster(mut self, name: &str, keys: &str) -> Scene {
        let head = format!("  {name}: {{");
        assert!(self.clusters.contains(&head));
        self.clusters = self.clusters.replace(&head, &format!("{head}{keys}, "));
        self
    }

    pub(crate) fn with_server(mut self, line: &str) -> Scene {
        self.server.push_str(&format!("  {line}\n"));
        self
    }

    pub(crate) fn with_top(mut self, line: &str) -> Scene {
        self.top.push_str(&format!("{line}\n"));
        self
    }

    pub(crate) fn with_password_line(mut self, line: &str) -> Scene {
        self.passwords.push_str(&format!("{line}\n"));
        self
    }

    pub(crate) fn with_routes(mut self, lines: &str) -> Scene {
        self.routes = lines.to_owned();
        self
    }

    pub(crate) fn write(&self) -> PathBuf {
        let write = |name: &str, text: &str| {
            std::fs::write(self.folder.path().join(name), text).expect("is writable")
        };
        if !self.folder.path().join("tls.crt").exists() {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
                .expect("a certificate");
            write("tls.crt", &made.cert.pem());
            write("tls.key", &made.signing_key.serialize_pem());
        }
        write(
            "users.htpasswd",
            &format!("{}{}", htpasswd(), self.passwords),
        );
        let yaml = format!(
            "allow_inline_secrets: true\nserver:\n  listen: 127.0.0.1:0\n  tls: {{cert_file: tls.crt, key_file: tls.key}}\n{}\
             admin: {{listen: \"127.0.0.1:0\"}}\nadmin_users: [root]\n{}authenticators:\n  staff: {{basic: {{htpasswd_file: users.htpasswd}}}}\n  \
             robots: {{jwt: {{issuer: \"{ISSUER}\", audiences: [{AUDIENCE}], secret: \"{JWT_SECRET}\"}}}}\n{}clusters:\n{}routes:\n{}",
            self.server, self.top, self.authenticators, self.clusters, self.routes
        );
        write("routes.yaml", &yaml);
        self.folder.path().join("routes.yaml")
    }

    pub(crate) fn start(self) -> Gateway {
        self.write();
        self.start_as_written()
    }

    /// Starts with the files as they are now.
    pub(crate) fn start_as_written(self) -> Gateway {
        let config = self.folder.path().join("routes.yaml");
        Gateway::start(self, &config)
    }
}

/// Makes a folder for a gateway without TLS and logins, for what needs neither; `server` goes into
/// its keys.
pub(crate) fn plain_folder(server: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = "server: {listen: \"127.0.0.1:0\", plaintext: true, MORE}\nadmin: {listen: \"127.0.0.1:0\"}\nregistry: {memory: {}}\n\
         authenticators: {open: {anonymous: {user: guest}}}\nclusters: {a: {flavor: livy, url: \"http://127.0.0.1:9\"}}\n\
         routes: [{name: all, targets: [{cluster: a}]}]\n";
    std::fs::write(
        folder.path().join("routes.yaml"),
        yaml.replace("MORE", server),
    )
    .expect("is writable");
    folder
}

/// Runs `serve` on a folder's `routes.yaml` with a limit as `ulimit` takes it; returns the
/// addresses that it and its admin listener listen on.
pub(crate) fn serve_with_limit(folder: &Path, limit: &str) -> (Process, SocketAddr, SocketAddr) {
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
pub(crate) fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some((
        line["listen"].as_str()?.parse().ok()?,
        line["admin"].as_str()?.parse().ok()?,
    ))
}

/// Gets something of an admin listener; status 0 if it did not answer.
pub(crate) fn admin(address: SocketAddr, path: &str) -> Reply {
    let stream = TcpStream::connect(address).expect("the admin listener listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("is a socket");
    exchange(stream, &Request::get(path).to_bytes())
}

/// Runs `serve` on a folder's `routes.yaml`; returns the address that it listens on.
pub(crate) fn serve(folder: &Path) -> (Process, SocketAddr) {
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
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) scene: Scene,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
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
    pub(crate) fn over(clusters: &Clusters) -> Gateway {
        Scene::new(clusters).start()
    }

    /// Kills it as `kill -9` does, and starts another one on the same files.
    pub(crate) fn killed_and_restarted(mut self) -> Gateway {
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
    pub(crate) fn send(&self, request: &Request<'_>) -> Reply {
        let reply = exchange(self.tls(&[b"http/1.1"]), &request.to_bytes());
        assert_no_secrets("an answer", &reply.whole());
        reply
    }

    /// Sends a request to a gateway that may be dying; `None` if it did not answer.
    pub(crate) fn try_send(&self, request: &[u8]) -> Option<Reply> {
        let tcp = TcpStream::connect(self.address).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).ok()?;
        let reply = exchange(over_tls(tcp, self.client_config(&[b"http/1.1"])), request);
        (reply.status > 0).then_some(reply)
    }

    /// Opens a TLS connection.
    pub(crate) fn tls(
        &self,
        alpn: &[&[u8]],
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        over_tls(self.tcp(), self.client_config(alpn))
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).expect("the gateway listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("is a socket");
        tcp
    }

    pub(crate) fn client_config(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        tls_config(&self.scene.folder.path().join("tls.crt"), alpn)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(&Request::get(path).basic(ALICE))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&Request::post(path, body).basic(ALICE))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Reply {
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
    pub(crate) fn submit(&self, flavor: &str, more: &Value) -> i64 {
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
    pub(crate) fn wait_for_state(&self, id: i64, wanted: &str) -> Vec<String> {
        self.wait_longer_for_state(id, wanted, PATIENCE)
    }

    /// The same, for jobs that take their time.
    #[track_caller]
    pub(crate) fn wait_longer_for_state(
        &self,
        id: i64,
        wanted: &str,
        patience: Duration,
    ) -> Vec<String> {
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
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Gateway) -> bool) {
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

    /// Gets something of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> Reply {
        admin(self.admin, path)
    }

    /// Returns the value of one series, 0 if there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    fn log_end(&self) -> String {
        let seen = self.process.seen.lock().expect("no panic holds it");
        seen[seen.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn log(&self) -> String {
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

/// Signs a token for the `robots` authenticator; `claims` overrides the good ones.
pub(crate) fn token(claims: Value) -> String {
    sign(
        claims,
        &jsonwebtoken::Header::default(),
        &jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes()),
    )
}

pub(crate) fn sign(
    claims: Value,
    header: &jsonwebtoken::Header,
    key: &jsonwebtoken::EncodingKey,
) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600});
    for (name, value) in claims.as_object().expect("an object") {
        all[name] = value.clone();
    }
    all.as_object_mut()
        .expect("an object")
        .retain(|_, value| !value.is_null());
    jsonwebtoken::encode(header, &all, key).expect("signs")
}
