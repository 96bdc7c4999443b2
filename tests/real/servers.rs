//! The real servers: each in a folder and a process group of its own, on free loopback ports, stopped with everything that it started.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Request, exchange};

/// How long a server may take to come up on a busy machine.
const START: Duration = Duration::from_secs(120);

/// The account that the front servers know.
pub(crate) const USER: &str = "svc";
/// Its password.
pub(crate) const PASSWORD: &str = "svc-cluster-password";

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

struct Packages {
    spark_home: PathBuf,
    python: PathBuf,
    livy_jars: PathBuf,
    knox: PathBuf,
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
    Packages {
        spark_home: lib.join("site-packages/pyspark"),
        python: venv.join("bin/python"),
        livy_jars: value("LIVY_JARS"),
        knox: value("KNOX"),
    }
}

/// A Livy in a process group of its own, for it starts a spark-submit for every batch.
pub(crate) struct Livy {
    process: Option<Group>,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Livy {
    pub(crate) fn start() -> Livy {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
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
        let livy = Livy { process: Some(Livy::spawn(folder.path())), folder, address };
        livy.wait_until_ready();
        livy
    }

    fn spawn(folder: &Path) -> Group {
        let packages = packages();
        let mut command = Command::new("java");
        command
            .arg("-cp")
            .arg(format!("{}:{}/*", folder.join("conf").display(), packages.livy_jars.display()))
            .arg("org.apache.livy.server.LivyServer")
            .env("LIVY_HOME", folder)
            .env("LIVY_CONF_DIR", folder.join("conf"))
            .env("SPARK_HOME", &packages.spark_home)
            .env("PYSPARK_PYTHON", &packages.python)
            .env("SPARK_LOCAL_IP", "127.0.0.1");
        Group::spawn(&mut command, &folder.join("logs/livy.out"))
    }

    /// Ends it with all its jobs, as a crash of its machine does, and starts it again: without recovery it counts from 0.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        self.process = Some(Livy::spawn(self.folder.path()));
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + START;
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

    pub(crate) fn job(&self) -> String {
        self.folder.path().join("jobs/job.py").display().to_string()
    }

    /// Builds a jar with a JVM job: the Python package has no examples in one.
    pub(crate) fn jvm_job(&self) -> String {
        let packages = packages();
        let at = |name: &str| self.folder.path().join("jobs").join(name);
        std::fs::write(at("Pi.java"), PI_JAVA).expect("is writable");
        let class_path = format!("{}/jars/*", packages.spark_home.display());
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).current_dir(self.folder.path().join("jobs")).status().expect("a JDK");
            assert!(status.success(), "{program} failed");
        };
        run("javac", &["-cp", &class_path, "Pi.java"]);
        run("jar", &["cf", "pi.jar", "Pi.class"]);
        at("pi.jar").display().to_string()
    }

    /// Asks the Livy itself.
    pub(crate) fn direct(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).expect("Livy listens");
        exchange(stream, &Request::get(path).to_bytes()).json()
    }
}

/// A process group that is killed with its owner.
struct Group(Child);

impl Group {
    fn spawn(command: &mut Command, log: &Path) -> Group {
        let log = std::fs::File::create(log).expect("is writable");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).process_group(0);
        Group(command.spawn().expect("the program is on the PATH"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("is bound")
}

fn wait_for_port(address: SocketAddr, log: &Path) {
    let until = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "nothing listens at {address}:\n{}", std::fs::read_to_string(log).unwrap_or_default());
        std::thread::yield_now();
    }
}

/// Something that stands in front of a Livy: what the gateway needs to talk to it.
pub(crate) struct Front {
    _processes: Vec<Group>,
    _folder: tempfile::TempDir,
    log: PathBuf,
    /// `routes.yaml` keys of the cluster.
    pub(crate) yaml: String,
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the front's own log:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn credentials() -> String {
    format!("credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}")
}

/// nginx with TLS, basic authentication and the prefix `/livy`: HDInsight's cluster gateway, as far as it is documented.
pub(crate) fn hdinsight_front(livy: &Livy) -> Front {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(at("tls.crt"), made.cert.pem()).expect("is writable");
    std::fs::write(at("tls.key"), made.signing_key.serialize_pem()).expect("is writable");
    std::fs::write(at("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).expect("is writable");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {};", at(kind))).join(" ");
    // One process, so that whoever runs the tests also reads their files.
    let conf = format!(
        "daemon off; master_process off; pid {pid}; error_log stderr;\nevents {{}}\nhttp {{ access_log off; {temporary}\n\
         server {{ listen {address} ssl; ssl_certificate {crt}; ssl_certificate_key {key};\n\
         location /livy/ {{ auth_basic cluster; auth_basic_user_file {users}; proxy_set_header Authorization \"\"; proxy_pass http://{livy}/; }} }} }}\n",
        pid = at("pid"),
        crt = at("tls.crt"),
        key = at("tls.key"),
        users = at("users"),
        livy = livy.address
    );
    std::fs::write(at("nginx.conf"), conf).expect("is writable");
    let log = folder.path().join("nginx.log");
    let nginx = Group::spawn(Command::new("nginx").args(["-p", &at(""), "-c", &at("nginx.conf")]), &log);
    wait_for_port(address, &log);
    let yaml =
        format!("flavor: hdinsight, url: \"https://localhost:{}\", tls: {{ca_file: {}}}, {}", address.port(), at("tls.crt"), credentials());
    Front { _processes: vec![nginx], _folder: folder, log, yaml }
}

/// Java 17 closes what Knox and its LDAP server open.
const OPENS: [&str; 14] = [
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
];

/// A real Apache Knox with an LDAP server for its logins.
pub(crate) fn knox_front(livy: &Livy) -> Front {
    let packages = packages();
    let folder = tempfile::tempdir().expect("a folder");
    let (address, ldap_address) = (free_address(), free_address());
    let at = |name: &str| folder.path().join(name);
    for name in [
        "conf/topologies",
        "conf/descriptors",
        "conf/shared-providers",
        "data/services",
        "data/security/keystores",
        "data/deployments",
        "logs",
    ] {
        std::fs::create_dir_all(at(name)).expect("is writable");
    }
    copy_folder(&packages.knox.join("services/livy"), &at("data/services/livy"));
    let write = |name: &str, text: String| std::fs::write(at(name), text).expect("is writable");
    write("conf/gateway-site.xml", gateway_site(address.port()));
    write("conf/topologies/default.xml", topology(ldap_address.port(), livy.address));
    write("conf/users.ldif", users_ldif());
    write("conf/gateway-log4j2.xml", LOG4J.to_owned());
    let class_path = format!("{}:{}/jars/*", at("conf").display(), packages.knox.display());
    let java = |main: &[&str]| {
        let mut command = Command::new("java");
        command.args(OPENS).arg("--add-opens").arg("java.base/sun.security.x509=ALL-UNNAMED");
        command.arg(format!("-DGATEWAY_HOME={}", folder.path().display()));
        command.arg(format!("-Dldap.port={}", ldap_address.port()));
        command.arg(format!("-Dlog4j.configurationFile={}", at("conf/gateway-log4j2.xml").display()));
        command.args(["-cp", &class_path]).args(main).current_dir(folder.path());
        command
    };
    let run = |command: &mut Command| {
        let out = command.output().expect("is on the PATH");
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    };
    const MASTER: &str = "knox-master-secret";
    run(&mut java(&["org.apache.knox.gateway.util.KnoxCLI", "create-master", "--master", MASTER]));
    // On Java 17 Knox's own certificate maker fails.
    let keystore = at("data/security/keystores/gateway.jks").display().to_string();
    let store = ["-keystore", &keystore, "-storepass", MASTER, "-alias", "gateway-identity"];
    run(Command::new("keytool")
        .arg("-genkeypair")
        .args(store)
        .args(["-keyalg", "RSA", "-keysize", "2048", "-storetype", "JKS", "-keypass", MASTER])
        .args(["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]));
    let ca = at("ca.pem").display().to_string();
    run(Command::new("keytool").args(["-exportcert", "-rfc", "-file", &ca]).args(store));
    let (ldap_log, log) = (at("logs/ldap.out"), at("logs/gateway.out"));
    let conf = at("conf").display().to_string();
    let ldap = Group::spawn(&mut java(&["org.apache.knox.gateway.security.ldap.SimpleLdapDirectoryServer", &conf]), &ldap_log);
    wait_for_port(ldap_address, &ldap_log);
    let gateway = Group::spawn(&mut java(&["org.apache.knox.gateway.GatewayServer"]), &log);
    wait_for_port(address, &log);
    let yaml = format!("flavor: knox, url: \"https://localhost:{}\", tls: {{ca_file: {ca}}}, {}", address.port(), credentials());
    Front { _processes: vec![gateway, ldap], _folder: folder, log, yaml }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("is writable");
    for entry in std::fs::read_dir(from).expect("is there").filter_map(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn gateway_site(port: u16) -> String {
    let property = |(name, value): (&str, &str)| format!("<property><name>{name}</name><value>{value}</value></property>");
    let port = port.to_string();
    let properties = [
        ("gateway.host", "127.0.0.1"),
        ("gateway.port", port.as_str()),
        ("gateway.path", "gateway"),
        ("gateway.hadoop.kerberos.secured", "false"),
        ("gateway.websocket.feature.enabled", "false"),
        ("gateway.webshell.feature.enabled", "false"),
    ];
    format!("<configuration>{}</configuration>", properties.map(property).concat())
}

fn topology(ldap_port: u16, livy: SocketAddr) -> String {
    let param = |(name, value): (&str, String)| format!("<param><name>{name}</name><value>{value}</value></param>");
    let params = [
        ("sessionTimeout", "30".to_owned()),
        ("main.ldapRealm", "org.apache.knox.gateway.shirorealm.KnoxLdapRealm".to_owned()),
        ("main.ldapContextFactory", "org.apache.knox.gateway.shirorealm.KnoxLdapContextFactory".to_owned()),
        ("main.ldapRealm.contextFactory", "$ldapContextFactory".to_owned()),
        ("main.ldapRealm.userDnTemplate", "uid={0},ou=people,dc=hadoop,dc=apache,dc=org".to_owned()),
        ("main.ldapRealm.contextFactory.url", format!("ldap://127.0.0.1:{ldap_port}")),
        ("main.ldapRealm.contextFactory.authenticationMechanism", "simple".to_owned()),
        ("urls./**", "authcBasic".to_owned()),
    ];
    format!(
        "<topology><gateway><provider><role>authentication</role><name>ShiroProvider</name><enabled>true</enabled>{}</provider>\
         <provider><role>identity-assertion</role><name>Default</name><enabled>true</enabled></provider></gateway>\
         <service><role>LIVYSERVER</role><url>http://{livy}</url></service></topology>",
        params.map(param).concat()
    )
}

fn users_ldif() -> String {
    format!(
        "version: 1\n\ndn: dc=hadoop,dc=apache,dc=org\nobjectclass: organization\nobjectclass: dcObject\no: Hadoop\ndc: hadoop\n\n\
         dn: ou=people,dc=hadoop,dc=apache,dc=org\nobjectclass: top\nobjectclass: organizationalUnit\nou: people\n\n\
         dn: uid={USER},ou=people,dc=hadoop,dc=apache,dc=org\nobjectclass: top\nobjectclass: person\nobjectclass: organizationalPerson\n\
         objectclass: inetOrgPerson\ncn: {USER}\nsn: {USER}\nuid: {USER}\nuserPassword: {PASSWORD}\n"
    )
}

const LOG4J: &str = r#"<Configuration status="error"><Appenders><Console name="out"><PatternLayout pattern="%d %p %c: %m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>"#;
