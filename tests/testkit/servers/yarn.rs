//! A real Apache Hadoop YARN: one ResourceManager, one NodeManager, the local file system. Livy
//! 0.7.1 recovers only on YARN.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Group, OPENS, START, free_address, hadoop_xml, packages};
use crate::wire::{Request, exchange};

/// What a job of the tests needs three times: a driver and an executor of half a GiB each, with
/// Spark's overhead.
const MEMORY_MB: &str = "6144";

/// A YARN in process groups of its own.
pub struct Yarn {
    processes: [Group; 2],
    folder: tempfile::TempDir,
    web: SocketAddr,
}

impl Yarn {
    /// Starts it and waits until it can run jobs.
    pub fn start() -> Yarn {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["conf", "local", "logs"] {
            std::fs::create_dir(at(name)).expect("is writable");
        }
        let web = free_address();
        let resource_manager = "org.apache.hadoop.yarn.server.resourcemanager";
        let mut properties = vec![
            ("yarn.resourcemanager.hostname", "127.0.0.1".to_owned()),
            ("yarn.resourcemanager.webapp.address", web.to_string()),
            (
                "yarn.resourcemanager.scheduler.class",
                format!("{resource_manager}.scheduler.fifo.FifoScheduler"),
            ),
            // A job that fails is not tried again.
            ("yarn.resourcemanager.am.max-attempts", "1".into()),
            ("yarn.scheduler.minimum-allocation-mb", "128".into()),
            ("yarn.nodemanager.hostname", "127.0.0.1".into()),
            ("yarn.nodemanager.local-dirs", at("local")),
            ("yarn.nodemanager.log-dirs", at("logs")),
            ("yarn.nodemanager.resource.memory-mb", MEMORY_MB.into()),
            ("yarn.nodemanager.resource.cpu-vcores", "8".into()),
            ("yarn.nodemanager.vmem-check-enabled", "false".into()),
            ("yarn.nodemanager.pmem-check-enabled", "false".into()),
            // A test machine's disk may be full to nine tenths.
            (
                "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage",
                "100".into(),
            ),
        ];
        for name in [
            "yarn.resourcemanager.address",
            "yarn.resourcemanager.scheduler.address",
            "yarn.resourcemanager.resource-tracker.address",
            "yarn.resourcemanager.admin.address",
        ] {
            properties.push((name, free_address().to_string()));
        }
        for name in [
            "yarn.nodemanager.address",
            "yarn.nodemanager.localizer.address",
            "yarn.nodemanager.webapp.address",
        ] {
            properties.push((name, "127.0.0.1:0".into()));
        }
        let write = |name: &str, text: String| std::fs::write(at(name), text).expect("is writable");
        write("conf/yarn-site.xml", hadoop_xml(&properties));
        write(
            "conf/core-site.xml",
            hadoop_xml(&[
                ("fs.defaultFS", "file:///".into()),
                ("hadoop.tmp.dir", at("tmp")),
            ]),
        );
        write(
            "conf/log4j.properties",
            "log4j.rootLogger=WARN,out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n\n"
                .into(),
        );
        let class_path = format!("{}:{}/*", at("conf"), packages().yarn_jars.display());
        let spawn = |main: &str, log: &str| {
            let mut command = Command::new("java");
            command
                .args(OPENS)
                .args(["-Xmx300m", "-cp", &class_path, main])
                .current_dir(folder.path());
            Group::spawn(&command, &folder.path().join(log))
        };
        let processes = [
            spawn(
                &format!("{resource_manager}.ResourceManager"),
                "resourcemanager.out",
            ),
            spawn(
                "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
                "nodemanager.out",
            ),
        ];
        let yarn = Yarn {
            processes,
            folder,
            web,
        };
        yarn.wait_until_ready();
        yarn
    }

    /// Returns the files in which the NodeManager keeps the process ids of its containers.
    fn container_pids(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path());
        let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let below = folders
            .iter()
            .flat_map(|folder| Yarn::container_pids(folder));
        files
            .into_iter()
            .filter(|file| file.extension().is_some_and(|end| end == "pid"))
            .chain(below)
            .collect()
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + START;
        while !self
            .ask("/ws/v1/cluster/nodes")
            .is_some_and(|text| text.contains("\"RUNNING\""))
        {
            let log = |name: &str| {
                std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
            };
            assert!(
                Instant::now() < until,
                "YARN did not come up:\n{}{}",
                log("resourcemanager.out"),
                log("nodemanager.out")
            );
            std::thread::yield_now();
        }
    }

    fn ask(&self, path: &str) -> Option<String> {
        let stream = TcpStream::connect(self.web).ok()?;
        Some(exchange(stream, &Request::get(path).to_bytes()).text())
    }

    /// Returns the folder that Hadoop's clients read.
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    /// Returns what YARN itself says of an application: `RUNNING`, `FINISHED`, `KILLED`, …
    pub fn state_of(&self, application: &str) -> String {
        let text = self
            .ask(&format!("/ws/v1/cluster/apps/{application}/state"))
            .unwrap_or_default();
        let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        body["state"].as_str().unwrap_or("(unknown)").to_owned()
    }
}

impl Drop for Yarn {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(Group::kill);
        // Containers are in sessions of their own, and outlive their NodeManager.
        for file in Yarn::container_pids(&self.folder.path().join("local/nmPrivate")) {
            let pid = std::fs::read_to_string(file).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse::<u32>() {
                let _ = Command::new("kill")
                    .args(["-KILL", "--", &format!("-{pid}")])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}
