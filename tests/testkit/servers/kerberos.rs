//! A realm of its own: MIT Kerberos' KDC, on a free loopback port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Group, free_address, wait_for_port};

/// The name of the realm.
pub const REALM: &str = "TEST.LOCAL";

/// A KDC, its database and keytabs.
pub struct Realm {
    _kdc: Group,
    folder: tempfile::TempDir,
}

impl Realm {
    /// Makes the realm, and starts its KDC.
    pub fn start() -> Realm {
        let folder = tempfile::tempdir().expect("a folder");
        let kdc = free_address();
        write_configuration(folder.path(), "krb5.conf", kdc);
        // Where nobody listens.
        write_configuration(folder.path(), "krb5-away.conf", free_address());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "[kdcdefaults]\nkdc_listen = {kdc}\nkdc_tcp_listen = {kdc}\n\
             [realms]\n{REALM} = {{\ndatabase_name = {}\nkey_stash_file = {}\nacl_file = {}\n}}\n",
            at("principal"),
            at("stash"),
            at("acl")
        );
        std::fs::write(folder.path().join("kdc.conf"), text).expect("is writable");
        run(
            folder.path(),
            "kdb5_util",
            &["create", "-s", "-P", "master", "-r", REALM],
        );
        let mut command = Command::new("krb5kdc");
        command.arg("-n").envs(environment(folder.path()));
        let log = folder.path().join("kdc.log");
        let started = Group::spawn(&command, &log);
        wait_for_port(kdc, &log);
        Realm {
            _kdc: started,
            folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the configuration of clients.
    pub fn krb5_conf(&self) -> String {
        self.at("krb5.conf").display().to_string()
    }

    /// Returns one that names a KDC that is not there.
    pub fn krb5_conf_away(&self) -> String {
        self.at("krb5-away.conf").display().to_string()
    }

    fn admin(&self, query: &str) {
        run(self.folder.path(), "kadmin.local", &["-q", query]);
    }

    /// Makes a principal, whose tickets live for `life`.
    pub fn add(&self, name: &str, life: &str) {
        self.admin(&format!(
            "addprinc -randkey -maxlife \"{life}\" {name}@{REALM}"
        ));
    }

    /// Takes a principal out of the realm.
    pub fn remove(&self, name: &str) {
        self.admin(&format!("delprinc -force {name}@{REALM}"));
    }

    /// Makes other keys for a principal, and puts them into a new file: keys that were there before
    /// are no longer good.
    pub fn keytab(&self, name: &str, file: &str) -> PathBuf {
        let path = self.at(file);
        self.admin(&format!("ktadd -k {} {name}@{REALM}", path.display()));
        assert!(path.exists(), "no keytab was made");
        path
    }

    /// Asks a server as a principal, by curl, which has nothing of ours.
    pub fn ask(&self, keytab: &Path, url: &str) -> Value {
        let out = Command::new("curl")
            .args(["-sS", "--negotiate", "-u", ":", url])
            .envs(environment(self.folder.path()))
            .env("KRB5_CLIENT_KTNAME", format!("FILE:{}", keytab.display()))
            .env("KRB5CCNAME", "MEMORY:")
            .output()
            .expect("there is a curl");
        let text = String::from_utf8_lossy(&out.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{url} answered {text}"))
    }
}

fn environment(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("KRB5_CONFIG", folder.join("krb5.conf")),
        ("KRB5_KDC_PROFILE", folder.join("kdc.conf")),
    ]
}

fn write_configuration(folder: &Path, name: &str, kdc: SocketAddr) {
    let text = format!(
        "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
         dns_canonicalize_hostname = false\nrdns = false\n\
         [realms]\n{REALM} = {{\nkdc = {kdc}\n}}\n"
    );
    std::fs::write(folder.join(name), text).expect("is writable");
}

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let out = Command::new(program)
        .args(arguments)
        .envs(environment(folder))
        .output()
        .unwrap_or_else(|error| panic!("{program} (Debian: krb5-kdc, krb5-admin-server): {error}"));
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {arguments:?}: {told}");
}
