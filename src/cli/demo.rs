//! `livy-gateway demo`: everything in one process, to be tried with curl.
//!
//! Certificate, password file and configuration are written below a temporary folder that goes when
//! the command ends; the gateway then starts exactly as `serve` would.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jsonwebtoken::{EncodingKey, Header};
use livy_dialect::Flavor;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::shared;
use crate::engine::Engine;
use crate::sandbox::{self, INSTANCE, PASSWORD, TOKEN, USER};

/// The demo's users and their passwords.
const USERS: [(&str, &str); 2] = [("alice", "wonderland"), ("bob", "builder")];
const ISSUER: &str = "https://demo.livy-gateway.example";
const AUDIENCE: &str = "livy-gateway";
/// How long the printed token holds: a working day.
const TOKEN_LIFE_S: u64 = 12 * 3600;

pub(super) fn run(listen: SocketAddr) -> Result<(), String> {
    shared::runtime()?.block_on(async {
        let folder = Folder::new()?;
        let clusters = sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0)), &[])
            .await
            .map_err(|error| error.to_string())?;
        let token = write_files(&folder.0, listen, clusters).await?;
        let running = Engine::start(&folder.0.join("routes.yaml")).await?;
        tell(&folder.0, &running, &token).map_err(|error| error.to_string())?;
        // Its terminal is closed: nobody could end it any more.
        let hangup = async {
            match signal(SignalKind::hangup()) {
                Ok(mut hangup) => drop(hangup.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = running.until_told() => {}
            () = hangup => {}
        }
        running.stop().await;
        Ok(())
    })
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!(
            "livy-gateway-demo-{}",
            uuid::Uuid::new_v4().simple()
        ));
        std::fs::create_dir(&path)
            .map_err(|error| format!("can't make {}: {error}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing more can be done about it, and the system clears its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes what the gateway reads, and returns a bearer token for alice.
async fn write_files(
    folder: &Path,
    listen: SocketAddr,
    clusters: SocketAddr,
) -> Result<String, String> {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    write("tls.crt", &made.cert.pem())?;
    write("tls.key", &made.signing_key.serialize_pem())?;
    let lines = tokio::task::spawn_blocking(|| {
        let line = |(user, password): (&str, &str)| {
            bcrypt::hash(password, 8).map(|hash| format!("{user}:{hash}\n"))
        };
        USERS.into_iter().map(line).collect::<Result<String, _>>()
    });
    let lines = lines
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    write("users.htpasswd", &lines)?;
    let secret = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    write("jwt.secret", &secret)?;
    write("cluster.password", PASSWORD)?;
    write("cluster.token", TOKEN)?;
    write("routes.yaml", &routes(listen, clusters))?;
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": USERS[0].0, "exp": jsonwebtoken::get_current_timestamp() + TOKEN_LIFE_S});
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .map_err(|error| error.to_string())
}

fn routes(listen: SocketAddr, clusters: SocketAddr) -> String {
    let named = Flavor::ALL.map(|flavor| {
        let credentials = match flavor {
            Flavor::Livy => String::new(),
            Flavor::Ibm => format!(", instance_id: {INSTANCE}, credentials: {{bearer: {{token: {{file: cluster.token}}}}}}"),
            _ => format!(", credentials: {{basic: {{username: {USER}, password: {{file: cluster.password}}}}}}"),
        };
        // The simulated Livys have impersonation off, as Livy has by default: jobs run as the
        // service account.
        let act_as = if matches!(flavor, Flavor::Livy | Flavor::Hdinsight) { ", act_as: service" } else { "" };
        format!("  {flavor}: {{flavor: {flavor}, url: \"http://{clusters}\"{credentials}{act_as}}}\n")
    });
    let targets = Flavor::ALL
        .map(|flavor| format!("{{cluster: {flavor}}}"))
        .join(", ");
    format!(
        "server:\n  listen: \"{listen}\"\n  tls: {{cert_file: tls.crt, key_file: tls.key}}\nadmin: {{listen: \"127.0.0.1:0\"}}\n\
         authenticators:\n  staff: {{basic: {{htpasswd_file: users.htpasswd}}}}\n  \
         robots: {{jwt: {{issuer: \"{ISSUER}\", audiences: [{AUDIENCE}], secret: {{file: jwt.secret}}}}}}\n\
         clusters:\n{}routes:\n  - {{name: demo, targets: [{targets}]}}\n",
        named.concat()
    )
}

fn tell(folder: &Path, running: &Engine, token: &str) -> std::io::Result<()> {
    let address = running
        .addresses()
        .first()
        .copied()
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let base = format!("https://localhost:{}", address.port());
    let ca = folder.join("tls.crt");
    let [(alice, alices), (bob, bobs)] = USERS;
    let curl = format!("curl -sS -w '\\n' --cacert {}", ca.display());
    let mut out = std::io::stdout();
    writeln!(
        out,
        "livy-gateway demo: {base}, five simulated clusters behind it. Ctrl-C ends it and leaves nothing behind."
    )?;
    writeln!(
        out,
        "Users: {alice}:{alices} and {bob}:{bobs}; metrics: http://{}/metrics\n",
        running.admin_address()
    )?;
    for flavor in Flavor::ALL {
        let at = format!("{base}/clusters/{flavor}");
        let job = if flavor == Flavor::Ibm {
            "cos://jobs.demo/pi.py"
        } else {
            "hdfs:///jobs/pi.py"
        };
        writeln!(
            out,
            "# {flavor}: submit, poll, read the log, list, kill. Jobs run for as many seconds as their first argument says."
        )?;
        writeln!(
            out,
            "ID=$({curl} -u {alice}:{alices} -d '{{\"file\": \"{job}\", \"args\": [\"60\"]}}' -H 'Content-Type: application/json' {at}/batches | tee /dev/stderr | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/')"
        )?;
        writeln!(out, "{curl} -u {alice}:{alices} {at}/batches/$ID/state")?;
        writeln!(
            out,
            "{curl} -u {alice}:{alices} \"{at}/batches/$ID/log?from=0&size=5\""
        )?;
        writeln!(out, "{curl} -u {alice}:{alices} {at}/batches")?;
        writeln!(
            out,
            "{curl} -u {alice}:{alices} -X DELETE {at}/batches/$ID\n"
        )?;
    }
    writeln!(
        out,
        "# The same with a bearer token, on a cluster of the gateway's choice; and what {bob} sees of it: nothing."
    )?;
    writeln!(
        out,
        "{curl} -H 'Authorization: Bearer {token}' -d '{{\"file\": \"hdfs:///jobs/pi.py\"}}' -H 'Content-Type: application/json' {base}/batches"
    )?;
    writeln!(out, "{curl} -u {bob}:{bobs} {base}/batches")?;
    out.flush()
}
