//! What changes, how it is written, and how its effect is seen.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use livy_gateway::sandbox::{PASSWORD, USER};
use rustls::ClientConfig;
use serde_json::json;

use crate::token::Front;
use testkit::{
    ALICE, BOB, Clusters, Gateway, ROOT, Request, Scene, exchange, over_tls, tls_config,
};

/// How long a change is waited for at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Certificate,
    Passwords,
    Token,
    Routes,
    Clusters,
    BrokenCertificate,
    BrokenPasswords,
    BrokenConfiguration,
}

impl Change {
    pub(crate) const ALL: [Change; 8] = [
        Change::Certificate,
        Change::Passwords,
        Change::Token,
        Change::Routes,
        Change::Clusters,
        Change::BrokenCertificate,
        Change::BrokenPasswords,
        Change::BrokenConfiguration,
    ];

    /// Every fifth file is broken.
    pub(crate) fn number(number: u64) -> Change {
        let good = [
            Change::Certificate,
            Change::Passwords,
            Change::Token,
            Change::Routes,
            Change::Clusters,
        ];
        let broken = [
            Change::BrokenCertificate,
            Change::BrokenPasswords,
            Change::BrokenConfiguration,
        ];
        let pick = |list: &[Change], at: u64| list[usize::try_from(at).unwrap_or(0) % list.len()];
        match number % 5 {
            4 => pick(&broken, number / 5),
            _ => pick(&good, number - number / 5),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Change::Certificate => "certificate",
            Change::Passwords => "password file",
            Change::Token => "token of a cluster",
            Change::Routes => "routes",
            Change::Clusters => "clusters",
            Change::BrokenCertificate => "broken certificate",
            Change::BrokenPasswords => "broken password file",
            Change::BrokenConfiguration => "broken configuration",
        }
    }
}

/// A gateway, what is behind it, and the files that change.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    /// What clients trust: the CA, whichever certificate it signed last.
    pub(crate) trust: ClientConfig,
    _clusters: Clusters,
    front: Front,
    ca: (rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,),
    /// What stands in the configuration.
    text: Mutex<String>,
}

impl House {
    pub(crate) fn start() -> House {
        let clusters = Clusters::start();
        let front = Front::start(clusters.address, "token-0");
        let mut scene = Scene::new(&clusters);
        let ibm = scene.clusters.lines().find(|line| line.contains("ibm"));
        let ibm = ibm.expect("is configured").to_owned();
        scene.clusters = scene.clusters.replace(
            &ibm,
            &format!(
                "  ibm: {{flavor: ibm, url: \"http://{}\", instance_id: {}, \
                 credentials: {{bearer: {{token: {{file: cluster.token}}}}}}}}",
                front.address,
                livy_gateway::sandbox::INSTANCE
            ),
        );
        let folder = scene.folder.path().to_owned();
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).expect("is signed");
        std::fs::write(folder.join("ca.crt"), ca.pem()).expect("is writable");
        std::fs::write(folder.join("cluster.token"), "token-0").expect("is writable");
        write_certificate(&folder, &ca);
        let trust = tls_config(&folder.join("ca.crt"), &[b"http/1.1"]);
        let gateway = scene.start();
        let text = std::fs::read_to_string(folder.join("routes.yaml")).expect("is there");
        House {
            gateway,
            trust,
            _clusters: clusters,
            front,
            ca: (ca,),
            text: Mutex::new(text),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.gateway.scene.folder.path().join(name)
    }

    /// Writes as Kubernetes does: whole, and in one step.
    fn write(&self, name: &str, text: &str) {
        let new = self.file(&format!(".{name}.new"));
        std::fs::write(&new, text).expect("is writable");
        std::fs::rename(new, self.file(name)).expect("is moved");
    }

    /// Carries a change out; returns how long it took to be in force.
    pub(crate) fn carry_out(
        &self,
        change: Change,
        number: u64,
        within: Duration,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        match change {
            Change::Certificate => self.certificate()?,
            Change::Passwords => self.passwords(number)?,
            Change::Token => self.token(number)?,
            Change::Routes => self.routes()?,
            Change::Clusters => self.clusters(number)?,
            Change::BrokenCertificate => self.broken_certificate()?,
            Change::BrokenPasswords => self.broken_passwords()?,
            Change::BrokenConfiguration => self.broken_configuration()?,
        }
        let took = began.elapsed();
        if took > within {
            return Err(format!("in force only after {} ms", took.as_millis()));
        }
        Ok(took)
    }

    fn shown(&self) -> Vec<u8> {
        let mut stream = over_tls(self.gateway.tcp(), self.trust.clone());
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return Vec::new();
            }
        }
        let chain = stream.conn.peer_certificates().unwrap_or_default();
        chain.first().map_or(Vec::new(), |first| first.to_vec())
    }

    fn certificate(&self) -> Result<(), String> {
        let made = write_certificate(self.gateway.scene.folder.path(), &self.ca.0);
        until("the new certificate is shown", || self.shown() == made)
    }

    fn broken_certificate(&self) -> Result<(), String> {
        let good = std::fs::read_to_string(self.file("tls.crt")).map_err(|e| e.to_string())?;
        let before = self.shown();
        self.write("tls.crt", "nonsense");
        let series = r#"livy_gateway_file_current{kind="server_certificate",name="default"}"#;
        until("it is told", || self.gateway.metric(series) == 0.0)?;
        if self.shown() != before {
            return Err("the certificate in use did not stay".to_owned());
        }
        self.write("tls.crt", &good);
        until("the good one is current again", || {
            self.gateway.metric(series) == 1.0
        })
    }

    fn status(&self, request: &Request<'_>) -> u16 {
        let stream = over_tls(self.gateway.tcp(), self.trust.clone());
        exchange(stream, &request.to_bytes()).status
    }

    fn passwords(&self, number: u64) -> Result<(), String> {
        let text =
            std::fs::read_to_string(self.file("users.htpasswd")).map_err(|e| e.to_string())?;
        let alice = text.lines().find_map(|line| line.strip_prefix("alice:"));
        let hash = alice.ok_or("alice is gone")?.to_owned();
        let (old, new) = (
            format!("guest{}", number.saturating_sub(1)),
            format!("guest{number}"),
        );
        let kept = text.lines().filter(|line| !line.starts_with("guest"));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        let leaves = text.lines().find(|line| line.starts_with("guest"));
        let leaves = leaves
            .and_then(|line| line.split(':').next())
            .unwrap_or(&old);
        self.write("users.htpasswd", &format!("{kept}{new}:{hash}\n"));
        let ask = |user: &str| self.status(&Request::get("/version").basic((user, ALICE.1)));
        until("the new user gets in", || ask(&new) == 200)?;
        until("the old one does not", || ask(leaves) == 401)
    }

    fn broken_passwords(&self) -> Result<(), String> {
        let good =
            std::fs::read_to_string(self.file("users.htpasswd")).map_err(|e| e.to_string())?;
        self.write("users.htpasswd", "alice:plain text\n");
        let series = r#"livy_gateway_file_current{kind="htpasswd",name="staff"}"#;
        until("it is told", || self.gateway.metric(series) == 0.0)?;
        self.write("users.htpasswd", &good);
        until("the good one is current again", || {
            self.gateway.metric(series) == 1.0
        })
    }

    fn token(&self, number: u64) -> Result<(), String> {
        let token = format!("token-{number}");
        self.front.exchange(&token);
        self.write("cluster.token", &token);
        until("the cluster gets the new token", || {
            self.front.saw_the_newest()
        })
    }

    fn configuration(&self, edit: impl FnOnce(&str) -> String) {
        let mut text = self.text.lock().expect("no panic holds it");
        *text = edit(&text);
        self.write("routes.yaml", &text);
    }

    /// Who may see everything: bob does, or does not.
    fn routes(&self) -> Result<(), String> {
        let made = {
            let request = Request::post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}))
                .basic(ALICE);
            let stream = over_tls(self.gateway.tcp(), self.trust.clone());
            exchange(stream, &request.to_bytes()).json()["id"].as_i64()
        };
        let path = format!("/batches/{}/state", made.ok_or("nothing was submitted")?);
        let was = self.status(&Request::get(&path).basic(BOB));
        self.configuration(|text| match text.contains("admin_users: [root]") {
            true => text.replace("admin_users: [root]", "admin_users: [root, bob]"),
            false => text.replace("admin_users: [root, bob]", "admin_users: [root]"),
        });
        let wanted = if was == 200 { 404 } else { 200 };
        until("bob sees it, or no more", || {
            self.status(&Request::get(&path).basic(BOB)) == wanted
        })
    }

    /// One more cluster, or one less.
    fn clusters(&self, number: u64) -> Result<(), String> {
        let address = self._clusters.address;
        let name = format!("extra{number}");
        let mut went = None;
        self.configuration(|text| {
            let extra = text.lines().find(|line| line.starts_with("  extra"));
            let extra = extra.map(str::to_owned);
            went = extra
                .as_ref()
                .and_then(|line| line.trim().split(':').next().map(str::to_owned));
            let text = extra.map_or(text.to_owned(), |line| {
                text.replace(&format!("{line}\n"), "")
            });
            // Of a kind to which nobody submits: what has live batches does not go away.
            let line = format!(
                "clusters:\n  {name}: {{flavor: knox, url: \"http://{address}\", \
                 credentials: {{basic: {{username: {USER}, password: {PASSWORD}}}}}}}\n"
            );
            text.replacen("clusters:\n", &line, 1)
        });
        let ask = |name: &str| {
            let path = format!("/clusters/{name}/batches?size=1");
            self.status(&Request::get(&path).basic(ROOT))
        };
        until("the new cluster is served", || ask(&name) == 200)?;
        match went {
            Some(old) => until("the old one is not", || ask(&old) == 404),
            None => Ok(()),
        }
    }

    fn broken_configuration(&self) -> Result<(), String> {
        let success = "livy_gateway_config_last_reload_success ";
        let good = self.text.lock().expect("no panic holds it").clone();
        self.write("routes.yaml", "clusters: {a: {flavor: none}}\n");
        until("it is told", || self.gateway.metric(success) == 0.0)?;
        self.write("routes.yaml", &good);
        until("the good one is in force again", || {
            self.gateway.metric(success) == 1.0
        })
    }
}

/// Makes a certificate that the CA signs, and puts it in place: the key first, as cert-manager's
/// readers see it at worst.
fn write_certificate(
    folder: &std::path::Path,
    ca: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>,
) -> Vec<u8> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("are names");
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = params.signed_by(&key, ca).expect("is signed");
    for (name, text) in [("tls.key", key.serialize_pem()), ("tls.crt", made.pem())] {
        let new = folder.join(format!(".{name}.new"));
        std::fs::write(&new, text).expect("is writable");
        std::fs::rename(new, folder.join(name)).expect("is moved");
    }
    made.der().to_vec()
}

fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(format!("in vain: {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
