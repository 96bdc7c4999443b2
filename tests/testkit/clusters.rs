//! The simulated clusters of a test.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use livy_gateway::sandbox::{INSTANCE, PASSWORD, TOKEN, USER};
use serde_json::Value;

use crate::process::{Process, binary};
use crate::wire::{Reply, Request, exchange};

/// Flavors with a job file that suits each.
pub const FLAVORS: [(&str, &str); 5] = [
    ("livy", "hdfs:///jobs/pi.py"),
    ("knox", "hdfs:///jobs/pi.py"),
    ("hdinsight", "wasbs:///jobs/pi.py"),
    ("ibm", "cos://jobs.store/pi.py"),
    ("kyuubi", "hdfs:///jobs/pi.py"),
];

/// The simulated clusters, in a process of their own so that they outlive a gateway that is killed.
pub struct Clusters {
    _process: Process,
    /// Where all of them listen.
    pub address: SocketAddr,
}

impl Clusters {
    /// Starts them.
    pub fn start() -> Clusters {
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
    pub fn fault(&self, flavor: &str, fault: Value) {
        self.control("POST", &format!("{flavor}/faults"), Some(&fault));
    }

    /// Ends all misbehaviour.
    pub fn heal(&self, flavor: &str) {
        self.control("DELETE", &format!("{flavor}/faults"), None);
    }

    /// Restarts a cluster, which loses its memory where its flavor does.
    pub fn restart(&self, flavor: &str) {
        self.control("POST", &format!("{flavor}/restart"), None);
    }

    /// Restarts a cluster as `sandbox::control::Restart` says.
    pub fn restart_with(&self, flavor: &str, how: &Value) {
        self.control("POST", &format!("{flavor}/restart"), Some(how));
    }

    /// Switches what a cluster shows, as `sandbox::control::Options` says.
    pub fn options(&self, flavor: &str, options: &Value) {
        self.control("POST", &format!("{flavor}/options"), Some(options));
    }

    /// Returns every job that a cluster ever had.
    pub fn books(&self, flavor: &str) -> Vec<Value> {
        self.control("GET", &format!("{flavor}/books"), None)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Sends a request to a cluster itself, past the gateway, with the login that it wants. `path`
    /// is below the base of the flavor's API.
    pub fn direct(&self, flavor: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
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
    pub fn collect(&self, flavor: &str) {
        self.control("POST", &format!("{flavor}/collect"), None);
    }

    /// Returns every request that a cluster got.
    pub fn requests(&self, flavor: &str) -> Vec<Value> {
        self.control("GET", &format!("{flavor}/requests"), None)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Returns how many submissions a cluster got.
    pub fn submissions(&self, flavor: &str) -> usize {
        self.requests(flavor)
            .iter()
            .filter(|request| request["method"] == "POST")
            .count()
    }

    /// Returns `routes.yaml` lines of the five clusters.
    pub fn yaml(&self) -> String {
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
pub fn base_of(flavor: &str) -> String {
    match flavor {
        "livy" => String::new(),
        "knox" => "/gateway/default/livy/v1".to_owned(),
        "hdinsight" => "/livy".to_owned(),
        "ibm" => format!("/v3/analytics_engines/{INSTANCE}/livy"),
        "kyuubi" => "/api/v1".to_owned(),
        other => panic!("{other} is no flavor"),
    }
}
