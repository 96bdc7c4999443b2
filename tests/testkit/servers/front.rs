//! What stands in front of a Livy: a real Apache Knox, and nginx in the place of HDInsight's
//! cluster gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::livy::Livy;
use super::{Group, OPENS, free_address, hadoop_xml, packages, wait_for_challenge, wait_for_port};

/// The account that the front servers know.
pub const USER: &str = "svc";
/// Its password.
pub const PASSWORD: &str = "svc-cluster-password";

/// Something that stands in front of a Livy: what the gateway needs to talk to it.
pub struct Front {
    _processes: Vec<Group>,
    _folder: tempfile::TempDir,
    log: PathBuf,
    /// `routes.yaml` keys of the cluster.
    pub yaml: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate to trust.
    pub ca_file: PathBuf,
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the front's own log:\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

fn credentials() -> String {
    format!("credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}")
}

/// nginx with TLS, basic authentication and the prefix `/livy`: HDInsight's cluster gateway, as far
/// as it is documented.
pub fn hdinsight_front(livy: &Livy) -> Front {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(at("tls.crt"), made.cert.pem()).expect("is writable");
    std::fs::write(at("tls.key"), made.signing_key.serialize_pem()).expect("is writable");
    std::fs::write(at("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).expect("is writable");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};", at(kind)))
        .join(" ");
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
    let nginx = Group::spawn(
        Command::new("nginx").args(["-p", &at(""), "-c", &at("nginx.conf")]),
        &log,
    );
    wait_for_challenge(
        address,
        "/livy/batches",
        &folder.path().join("tls.crt"),
        &log,
    );
    let yaml = format!(
        "flavor: hdinsight, url: \"https://localhost:{}\", tls: {{ca_file: {}}}, {}",
        address.port(),
        at("tls.crt"),
        credentials()
    );
    let ca_file = folder.path().join("tls.crt");
    Front {
        _processes: vec![nginx],
        _folder: folder,
        log,
        yaml,
        address,
        ca_file,
    }
}

/// A real Apache Knox with an LDAP server for its logins.
pub fn knox_front(livy: &Livy) -> Front {
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
    copy_folder(
        &packages.knox.join("services/livy"),
        &at("data/services/livy"),
    );
    let write = |name: &str, text: String| std::fs::write(at(name), text).expect("is writable");
    write("conf/gateway-site.xml", gateway_site(address.port()));
    write(
        "conf/topologies/default.xml",
        topology(ldap_address.port(), livy.address),
    );
    write("conf/users.ldif", users_ldif());
    write("conf/gateway-log4j2.xml", LOG4J.to_owned());
    let class_path = format!(
        "{}:{}/jars/*",
        at("conf").display(),
        packages.knox.display()
    );
    let java = |main: &[&str]| {
        let mut command = Command::new("java");
        command.args(OPENS);
        command.arg(format!("-DGATEWAY_HOME={}", folder.path().display()));
        command.arg(format!("-Dldap.port={}", ldap_address.port()));
        command.arg(format!(
            "-Dlog4j.configurationFile={}",
            at("conf/gateway-log4j2.xml").display()
        ));
        command
            .args(["-cp", &class_path])
            .args(main)
            .current_dir(folder.path());
        command
    };
    let run = |command: &mut Command| {
        let out = command.output().expect("is on the PATH");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    };
    const MASTER: &str = "knox-master-secret";
    run(&mut java(&[
        "org.apache.knox.gateway.util.KnoxCLI",
        "create-master",
        "--master",
        MASTER,
    ]));
    // On Java 17 Knox's own certificate maker fails.
    let keystore = at("data/security/keystores/gateway.jks")
        .display()
        .to_string();
    let store = [
        "-keystore",
        &keystore,
        "-storepass",
        MASTER,
        "-alias",
        "gateway-identity",
    ];
    run(Command::new("keytool")
        .arg("-genkeypair")
        .args(store)
        .args([
            "-keyalg",
            "RSA",
            "-keysize",
            "2048",
            "-storetype",
            "JKS",
            "-keypass",
            MASTER,
        ])
        .args([
            "-dname",
            "CN=localhost",
            "-ext",
            "SAN=dns:localhost,ip:127.0.0.1",
        ]));
    let ca = at("ca.pem").display().to_string();
    run(Command::new("keytool")
        .args(["-exportcert", "-rfc", "-file", &ca])
        .args(store));
    let (ldap_log, log) = (at("logs/ldap.out"), at("logs/gateway.out"));
    let conf = at("conf").display().to_string();
    let ldap = Group::spawn(
        &java(&[
            "org.apache.knox.gateway.security.ldap.SimpleLdapDirectoryServer",
            &conf,
        ]),
        &ldap_log,
    );
    wait_for_port(ldap_address, &ldap_log);
    let gateway = Group::spawn(&java(&["org.apache.knox.gateway.GatewayServer"]), &log);
    wait_for_challenge(
        address,
        "/gateway/default/livy/batches",
        Path::new(&ca),
        &log,
    );
    let yaml = format!(
        "flavor: knox, url: \"https://localhost:{}\", tls: {{ca_file: {ca}}}, {}",
        address.port(),
        credentials()
    );
    Front {
        _processes: vec![gateway, ldap],
        _folder: folder,
        log,
        yaml,
        address,
        ca_file: ca.into(),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("is writable");
    for entry in std::fs::read_dir(from)
        .expect("is there")
        .filter_map(Result::ok)
    {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn gateway_site(port: u16) -> String {
    hadoop_xml(&[
        ("gateway.host", "127.0.0.1".into()),
        ("gateway.port", port.to_string()),
        ("gateway.path", "gateway".into()),
        ("gateway.hadoop.kerberos.secured", "false".into()),
        ("gateway.websocket.feature.enabled", "false".into()),
        ("gateway.webshell.feature.enabled", "false".into()),
    ])
}

fn topology(ldap_port: u16, livy: SocketAddr) -> String {
    let param = |(name, value): (&str, String)| {
        format!("<param><name>{name}</name><value>{value}</value></param>")
    };
    let params = [
        ("sessionTimeout", "30".to_owned()),
        (
            "main.ldapRealm",
            "org.apache.knox.gateway.shirorealm.KnoxLdapRealm".to_owned(),
        ),
        (
            "main.ldapContextFactory",
            "org.apache.knox.gateway.shirorealm.KnoxLdapContextFactory".to_owned(),
        ),
        (
            "main.ldapRealm.contextFactory",
            "$ldapContextFactory".to_owned(),
        ),
        (
            "main.ldapRealm.userDnTemplate",
            "uid={0},ou=people,dc=hadoop,dc=apache,dc=org".to_owned(),
        ),
        (
            "main.ldapRealm.contextFactory.url",
            format!("ldap://127.0.0.1:{ldap_port}"),
        ),
        (
            "main.ldapRealm.contextFactory.authenticationMechanism",
            "simple".to_owned(),
        ),
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
