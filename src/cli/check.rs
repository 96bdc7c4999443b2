//! `livy-gateway check`.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::shared::{self, Format};
use crate::config::{self, BuildProblem, Config, Problems, checked};
use crate::engine::build;
use crate::gateway::Snapshot;
use crate::observe::metrics::Metrics;

pub(super) fn run(path: &Path, probe: bool, format: Format) -> Result<(), String> {
    let runtime = shared::runtime()?;
    let checked = runtime.block_on(async { build(path) });
    if let (Ok((_, notes)), Format::Text) = (&checked, format) {
        let notes = notes.iter().map(|note| format!("note: {note}\n"));
        shared::say(&format!(
            "{}: ok\n{}",
            path.display(),
            notes.collect::<String>()
        ))?;
    }
    let probes = match &checked {
        Ok((snapshot, _)) if probe => runtime.block_on(ask_all(snapshot, format))?,
        _ => Vec::new(),
    };
    let failed = probes.iter().filter(|one| one.error.is_some()).count();
    if format == Format::Json {
        let notes = checked.as_ref().map_or(&[][..], |(_, notes)| notes);
        say_json(path, checked.as_ref().err(), notes, &probes)?;
    }
    match checked {
        Err(problems) if format == Format::Text => Err(problems.render()),
        Ok(_) if failed == 0 => Ok(()),
        Ok(_) if format == Format::Text => Err(format!("{failed} of the probes failed")),
        // It is all in the JSON.
        _ => Err(String::new()),
    }
}

/// Writes the whole result; `ok` and the exit status say the same.
fn say_json(
    path: &Path,
    problems: Option<&Problems>,
    notes: &[String],
    probes: &[Probe],
) -> Result<(), String> {
    let problems = problems
        .map(|problems| problems.list.as_slice())
        .unwrap_or_default();
    let ok = problems.is_empty() && probes.iter().all(|one| one.error.is_none());
    let probes: Vec<_> = probes
        .iter()
        .map(|one| json!({"what": one.what, "ok": one.error.is_none(), "error": one.error}))
        .collect();
    let result =
        json!({"file": path, "ok": ok, "problems": problems, "notes": notes, "probes": probes});
    shared::say(&format!("{result}\n"))
}

/// Builds what `serve` would; also returns what is worth knowing of it.
fn build(path: &Path) -> Result<(Snapshot, Vec<String>), Problems> {
    let metrics = Arc::new(Metrics::new());
    let loaded = config::load(path)?;
    let mut found = machine(&loaded.config);
    match build::build(loaded.config.clone(), &loaded.masked(), None, &metrics) {
        Ok(built) if found.is_empty() => {
            return Ok((built.into_snapshot(None, &metrics), loaded.notes()));
        }
        Ok(_) => {}
        Err(more) => found.extend(more),
    }
    Err(loaded.locate(found))
}

/// Tells what this machine does not allow: ports that are taken, a folder that can't be written.
fn machine(config: &Config) -> Vec<BuildProblem> {
    let mut problems = Vec::new();
    let taken = |address: &SocketAddr| {
        let bound = std::net::TcpListener::bind(address);
        bound.err().filter(|_| address.port() != 0)
    };
    // Where the admin listener answers, the ports are taken by the gateway whose file this is.
    if !is_served(&config.admin) {
        let listeners = config
            .server
            .listen
            .iter()
            .map(|address| ("server", address));
        for (room, address) in listeners.chain([("admin", &config.admin.listen)]) {
            if let Some(error) = taken(address) {
                let what = format!("can't bind {address}: {error}");
                let remedy = "choose one that is free";
                problems.push(BuildProblem::new(&[room, "listen"], what, remedy));
            }
        }
    }
    if let checked::Registry::Sqlite(path) = &config.registry
        && let Err(error) = can_write_beside(path)
    {
        let what = format!("can't write beside {}: {error}", path.display());
        let remedy = "the registry keeps its files there; choose a folder that can be written";
        problems.push(BuildProblem::new(&["registry"], what, remedy));
    }
    problems
}

fn is_served(admin: &checked::Admin) -> bool {
    let limit = std::time::Duration::from_secs(1);
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&admin.listen, limit) else {
        return false;
    };
    if admin.tls.is_some() {
        return true;
    }
    let mut answer = [0; 12];
    let asked = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200")
}

fn can_write_beside(path: &Path) -> std::io::Result<()> {
    let probe = path.with_extension(format!("check-{}", std::process::id()));
    std::fs::File::create_new(&probe)?;
    std::fs::remove_file(&probe)
}

/// What one probe brought.
struct Probe {
    what: String,
    error: Option<String>,
}

/// Asks every cluster whether it is alive, unless it is not to be asked anything, and reads every
/// key set.
async fn ask_all(snapshot: &Snapshot, format: Format) -> Result<Vec<Probe>, String> {
    let mut probes = Vec::new();
    let mut tell = |what: String, verdict: Result<(), String>| {
        let said = verdict.as_ref().map_or_else(String::as_str, |()| "ok");
        let line = format!("{what}: {said}\n");
        probes.push(Probe {
            what,
            error: verdict.err(),
        });
        if format == Format::Text {
            shared::say(&line)
        } else {
            Ok(())
        }
    };
    for (name, upstream) in &snapshot.upstreams {
        if !upstream.health.is_enabled() {
            continue;
        }
        tell(
            format!("cluster {name} ({})", upstream.config.base),
            upstream.probe().await,
        )?;
    }
    for one in snapshot.authenticators.chain() {
        if let Some(set) = one.key_set() {
            tell(format!("key set of {}", one.name), set.refresh().await)?;
        }
    }
    Ok(probes)
}
