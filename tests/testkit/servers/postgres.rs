//! A real PostgreSQL server of a test's own: on a free loopback port, in a temporary folder.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// A server, gone with this.
pub struct Postgres {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

/// Where Debian puts a version's programs; they are not on the path.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|program| program.exists())
        .collect();
    versions.sort();
    versions.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn owner() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let me = std::fs::metadata("/proc/self").expect("a process").uid();
    // The server refuses to run as root.
    (me == 0).then(|| {
        let users = std::fs::read_to_string("/etc/passwd").expect("is readable");
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let mut ids = line.expect("its package makes the user").split(':').skip(2);
        let mut next = || ids.next().and_then(|id| id.parse().ok()).expect("a number");
        (next(), next())
    })
}

impl Postgres {
    /// Makes a database, and starts its server.
    pub fn start() -> Postgres {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).expect("is given");
        }
        let address = super::free_address();
        let server = Postgres { folder, address };
        server.run(
            "initdb",
            &[
                "--username",
                "livy",
                "--auth",
                "trust",
                "--no-instructions",
                "--no-sync",
            ],
        );
        server.start_again();
        server
    }

    /// Starts it again after [`Postgres::stop`].
    pub fn start_again(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off",
            self.address.port()
        );
        let log = self.folder.path().join("server.log");
        let log = log.display().to_string();
        self.run(
            "pg_ctl",
            &[
                "start",
                "--silent",
                "--wait",
                "--log",
                &log,
                "--options",
                &options,
            ],
        );
    }

    /// Ends it without a word to anybody who is connected.
    pub fn stop(&self) {
        self.run("pg_ctl", &["stop", "--silent", "--mode", "immediate"]);
    }

    /// Returns the URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://livy@{}/postgres", self.address)
    }

    fn run(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(program(name));
        command
            .args(arguments)
            .env("PGDATA", self.folder.path().join("data"))
            .current_dir(self.folder.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        let status = command.status().expect("PostgreSQL is installed");
        assert!(status.success(), "{name} {arguments:?}: {status}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = Command::new(program("pg_ctl"));
        command
            .args(["stop", "--silent", "--mode", "immediate"])
            .env("PGDATA", self.folder.path().join("data"))
            .stderr(std::process::Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        // It may have been stopped already.
        let _ = command.status();
    }
}
