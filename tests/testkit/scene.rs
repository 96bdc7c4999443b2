//! What a gateway of a test is started on: its folder.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::clusters::{Clusters, FLAVORS};
use crate::secrets::{ALICE, AUDIENCE, BOB, ISSUER, JWT_SECRET, ROOT};

/// A gateway's configuration in the making.
pub struct Scene {
    /// Where its files are.
    pub folder: tempfile::TempDir,
    /// The lines below `clusters`.
    pub clusters: String,
    /// The lines below `routes`.
    pub routes: String,
    /// More lines below `server`.
    pub server: String,
    /// More top-level lines.
    pub top: String,
    /// More lines below `authenticators`.
    pub authenticators: String,
    /// More lines of the password file.
    pub passwords: String,
    /// More of the gateway's environment.
    pub environment: Vec<(&'static str, String)>,
}

/// bcrypt at its least cost: the tests are about logins, not about slowness.
pub fn htpasswd() -> &'static str {
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
    /// Makes one with all clusters behind one route.
    pub fn new(clusters: &Clusters) -> Scene {
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
    pub fn with_cluster(mut self, name: &str, keys: &str) -> Scene {
        let head = format!("  {name}: {{");
        assert!(self.clusters.contains(&head));
        self.clusters = self.clusters.replace(&head, &format!("{head}{keys}, "));
        self
    }

    /// Adds a line below `server`.
    pub fn with_server(mut self, line: &str) -> Scene {
        self.server.push_str(&format!("  {line}\n"));
        self
    }

    /// Adds a top-level line.
    pub fn with_top(mut self, line: &str) -> Scene {
        self.top.push_str(&format!("{line}\n"));
        self
    }

    /// Adds a line to the password file.
    pub fn with_password_line(mut self, line: &str) -> Scene {
        self.passwords.push_str(&format!("{line}\n"));
        self
    }

    /// Replaces the routes.
    pub fn with_routes(mut self, lines: &str) -> Scene {
        self.routes = lines.to_owned();
        self
    }

    /// Writes the files; returns the path of `routes.yaml`.
    pub fn write(&self) -> PathBuf {
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
}

/// Makes a folder for a gateway without TLS and logins, for what needs neither; `server` goes into
/// its keys.
pub fn plain_folder(server: &str) -> tempfile::TempDir {
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
