//! A real Apache Livy 0.7.1, with CSRF protection on.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kerberos::{REALM, Realm};
use super::yarn::Yarn;
use super::{Group, START, free_address, packages};
use crate::wire::{Request, exchange};

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

/// The same without Spark, for tests that are not about the job: it starts in a third of the time.
/// Without arguments it runs for a second; it fails if its second one is `fail`.
const LIGHT_PY: &str = r#"
import sys, time
seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
end, tick = time.time() + seconds, 0
while time.time() < end:
    print("tick", tick, flush=True)
    tick += 1
    time.sleep(min(0.2, max(0.0, end - time.time())))
if "fail" in sys.argv[2:]:
    raise RuntimeError("told to fail")
"#;

/// Estimates pi on a JVM.
const PI_JAVA: &str = r#"
import org.apache.spark.sql.SparkSession;
public class Pi {
    public static void main(String[] args) throws Exception {
        SparkSession spark = SparkSession.builder().appName("livy-gateway jvm test").getOrCreate();
        long inside = spark.range(200000).selectExpr("rand(1) * rand(1) as r", "pow(rand(2), 2) + pow(rand(3), 2) as d").filter("d < 1").count();
        System.out.println("Pi is roughly " + 4.0 * inside / 200000);
        spark.stop();
    }
}
"#;

/// How a Livy is set up.
#[derive(Default)]
pub struct LivySetup<'a> {
    /// Jobs run there, in cluster mode, and the Livy recovers after a restart; without it they run
    /// in processes of its own.
    pub yarn: Option<&'a Yarn>,
    /// How long ended batches are kept; looked at once a minute. Livy's own default is ten minutes.
    pub keeps_ended: Option<Duration>,
    /// Whoever asks must prove to be somebody of a realm, to the service of this name.
    pub kerberos: Option<(&'a Realm, &'a str)>,
}

/// What Hadoop reaches for in a JDK's Kerberos, which is closed since Java 17.
const KERBEROS_OPENS: [&str; 4] = [
    "--add-opens",
    "java.security.jgss/sun.security.jgss=ALL-UNNAMED",
    "--add-opens",
    "java.security.jgss/sun.security.krb5=ALL-UNNAMED",
];

/// A Livy in a process group of its own, for it starts a spark-submit for every batch.
pub struct Livy {
    process: Group,
    folder: tempfile::TempDir,
    hadoop_conf: Option<PathBuf>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where Java reads of the realm.
    krb5_conf: Option<String>,
}

impl Livy {
    /// Starts one with default settings.
    pub fn start() -> Livy {
        Livy::set_up(&LivySetup::default())
    }

    /// Starts one and waits until it answers.
    pub fn set_up(setup: &LivySetup<'_>) -> Livy {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let at = |name: &str| folder.path().join(name);
        for name in ["conf", "spark-conf", "logs", "jobs", "state", "staging"] {
            std::fs::create_dir(at(name)).expect("is writable");
        }
        let write = |name: &str, text: &str| std::fs::write(at(name), text).expect("is writable");
        write("jobs/job.py", JOB_PY);
        for name in ["jobs/light.py", "jobs/ok.py"] {
            write(name, LIGHT_PY);
        }
        write("jobs/bad.py", "raise RuntimeError(\"told to fail\")\n");
        write("jobs/certify.py", livy_gateway::certify::JOB_PROGRAM);
        let mut conf = format!(
            "livy.server.host = 127.0.0.1\nlivy.server.port = {}\nlivy.file.local-dir-whitelist = {}\nlivy.server.csrf-protection.enabled = true\n\
             livy.repl.enable-hive-context = false\nlivy.ui.enabled = false\n",
            address.port(),
            at("jobs").display()
        );
        conf += &match setup.yarn {
            None => "livy.spark.master = local[1]\nlivy.spark.deploy-mode = client\n".to_owned(),
            // Livy 0.7.1 refuses to recover on anything but YARN.
            Some(_) => format!(
                "livy.spark.master = yarn\nlivy.spark.deploy-mode = cluster\nlivy.server.recovery.mode = recovery\n\
                 livy.server.recovery.state-store = filesystem\nlivy.server.recovery.state-store.url = file://{}\n",
                at("state").display()
            ),
        };
        if let Some(keeps) = setup.keeps_ended {
            conf += &format!(
                "livy.server.session.state-retain.sec = {}s\n",
                keeps.as_secs()
            );
        }
        if let Some((realm, service)) = setup.kerberos {
            conf += &format!(
                "livy.server.auth.type = kerberos\nlivy.server.auth.kerberos.principal = {service}@{REALM}\n\
                 livy.server.auth.kerberos.keytab = {}\nlivy.superusers = gateway\n",
                realm.keytab(service, "service.keytab").display()
            );
        }
        write("conf/livy.conf", &conf);
        let jars = packages().spark_home.join("jars");
        let spark = format!(
            "spark.ui.enabled false\nspark.executor.instances 1\nspark.executor.memory 512m\nspark.driver.memory 512m\n\
             spark.yarn.jars local:{}/*\nspark.yarn.stagingDir file://{}\n",
            jars.display(),
            at("staging").display()
        );
        write("spark-conf/spark-defaults.conf", &spark);
        let hadoop_conf = setup.yarn.map(|yarn| yarn.conf());
        let krb5_conf = setup.kerberos.map(|(realm, _)| realm.krb5_conf());
        let process = Livy::spawn(folder.path(), hadoop_conf.as_deref(), krb5_conf.as_deref());
        let livy = Livy {
            process,
            folder,
            hadoop_conf,
            krb5_conf,
            address,
        };
        livy.wait_until_ready();
        livy
    }

    fn spawn(folder: &Path, hadoop_conf: Option<&Path>, krb5_conf: Option<&str>) -> Group {
        let packages = packages();
        let mut class_path = folder.join("conf").display().to_string();
        let mut command = Command::new("java");
        if let Some(conf) = hadoop_conf {
            class_path += &format!(":{}", conf.display());
            command.env("HADOOP_CONF_DIR", conf);
        }
        if let Some(conf) = krb5_conf {
            command
                .args(KERBEROS_OPENS)
                .arg(format!("-Djava.security.krb5.conf={conf}"));
        }
        command
            .arg("-cp")
            .arg(format!("{class_path}:{}/*", packages.livy_jars.display()))
            .arg("org.apache.livy.server.LivyServer")
            .env("LIVY_HOME", folder)
            .env("LIVY_CONF_DIR", folder.join("conf"))
            .env("SPARK_HOME", &packages.spark_home)
            .env("SPARK_CONF_DIR", folder.join("spark-conf"))
            .env("PYSPARK_PYTHON", &packages.python)
            .env("SPARK_LOCAL_IP", "127.0.0.1");
        Group::spawn(&command, &folder.join("logs/livy.out"))
    }

    /// Ends it with all processes that it started, as a crash of its machine does, and starts it
    /// again.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Livy::spawn(
            self.folder.path(),
            self.hadoop_conf.as_deref(),
            self.krb5_conf.as_deref(),
        );
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + START;
        let ready = if self.krb5_conf.is_some() { 401 } else { 200 };
        loop {
            if let Ok(stream) = TcpStream::connect(self.address)
                && exchange(stream, &Request::get("/batches").to_bytes()).status == ready
            {
                return;
            }
            let log = || {
                std::fs::read_to_string(self.folder.path().join("logs/livy.out"))
                    .unwrap_or_default()
            };
            assert!(Instant::now() < until, "Livy did not come up:\n{}", log());
            std::thread::yield_now();
        }
    }

    /// Returns the folder of the job files.
    pub fn jobs(&self) -> String {
        self.folder.path().join("jobs").display().to_string()
    }

    /// Returns a job that uses Spark.
    pub fn job(&self) -> String {
        format!("{}/job.py", self.jobs())
    }

    /// Builds a jar with a JVM job: the Python package has no examples in one.
    pub fn jvm_job(&self) -> String {
        let packages = packages();
        let at = |name: &str| self.folder.path().join("jobs").join(name);
        std::fs::write(at("Pi.java"), PI_JAVA).expect("is writable");
        let class_path = format!("{}/jars/*", packages.spark_home.display());
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .args(arguments)
                .current_dir(self.folder.path().join("jobs"))
                .status()
                .expect("a JDK");
            assert!(status.success(), "{program} failed");
        };
        run("javac", &["-cp", &class_path, "Pi.java"]);
        run("jar", &["cf", "pi.jar", "Pi.class"]);
        at("pi.jar").display().to_string()
    }

    /// Asks the Livy itself.
    pub fn direct(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).expect("Livy listens");
        exchange(stream, &Request::get(path).to_bytes()).json()
    }
}
