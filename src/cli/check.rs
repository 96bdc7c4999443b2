//! `livy-gateway check`.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::ports::{self, Holder};
use super::shared::{self, Format};
use crate::config::{self, BuildProblem, Config, Problem, Problems, checked};
use crate::engine::{self, build};
use crate::gateway::Snapshot;
use crate::observe::metrics::Metrics;

/// A file that is right, and what is worth knowing of it.
type Right = (Snapshot, Vec<String>);

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
        say_json(path, &checked, &probes)?;
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
    checked: &Result<Right, Problems>,
    probes: &[Probe],
) -> Result<(), String> {
    let (problems, notes): (&[Problem], &[String]) = match checked {
        Ok((_, notes)) => (&[], notes),
        Err(problems) => (&problems.list, &[]),
    };
    let ok = problems.is_empty() && probes.iter().all(|one| one.error.is_none());
    let probes: Vec<_> = probes
        .iter()
        .map(|one| json!({"what": one.what, "ok": one.error.is_none(), "error": one.error}))
        .collect();
    // JSON is UTF-8, and a path need not be.
    let file = path.display().to_string();
    let result =
        json!({"file": file, "ok": ok, "problems": problems, "notes": notes, "probes": probes});
    shared::say(&format!("{result}\n"))
}

/// Builds what `serve` would; also returns what is worth knowing of it.
fn build(path: &Path) -> Result<Right, Problems> {
    let metrics = Arc::new(Metrics::new());
    let loaded = config::load(path)?;
    let mut machine = Machine::default();
    machine.look(path, &loaded.config);
    let mut found = machine.problems;
    match build::build(loaded.config.clone(), &loaded.masked(), None, &metrics) {
        Ok(built) if found.is_empty() => {
            let notes = [loaded.notes(), machine.notes].concat();
            return Ok((built.into_snapshot(None, &metrics), notes));
        }
        Ok(_) => {}
        Err(more) => found.extend(more),
    }
    Err(loaded.locate(found))
}

/// What this machine does not allow: ports that are taken, a folder that can't be written.
#[derive(Default)]
struct Machine {
    problems: Vec<BuildProblem>,
    /// What can't be told for sure.
    notes: Vec<String>,
}

impl Machine {
    fn look(&mut self, path: &Path, config: &Config) {
        // Held until all are bound: two of them may be in each other's way.
        let mut bound = Vec::new();
        let server = config.server.listen.iter().collect::<BTreeSet<_>>();
        let listeners = server.into_iter().map(|address| ("server", address));
        for (room, address) in listeners.chain([("admin", &config.admin.listen)]) {
            match TcpListener::bind(address) {
                Ok(listener) => bound.push(listener),
                Err(error) => self.taken(path, room, *address, &error),
            }
        }
        if let checked::Registry::Sqlite(path) = &config.registry
            && let Err(error) = can_write_beside(path)
        {
            let what = format!("can't write beside {}: {error}", path.display());
            let remedy = "the registry keeps its files there; choose a folder that can be written";
            self.problems
                .push(BuildProblem::new(&["registry"], what, remedy));
        }
    }

    /// Tells why an address can't be bound, unless that is as it should be: the gateway whose file
    /// this is has it.
    fn taken(&mut self, path: &Path, room: &str, address: SocketAddr, error: &std::io::Error) {
        let mut what = format!("can't bind {address}: {error}");
        let mut remedy = "choose one that is free";
        if error.kind() == ErrorKind::AddrInUse {
            match ports::holder(address, path) {
                Holder::OnThisFile(its) if its == address => return,
                Holder::OnThisFile(its) => {
                    what = format!(
                        "{address} overlaps with {its}, which the gateway that runs on this file listens on"
                    );
                    remedy = engine::MOVE_IN_BETWEEN;
                }
                Holder::Gateway { process, file } => {
                    let file = file.display();
                    return self.note(room, &format!("{address} is taken by a gateway that runs on {file} (process {process}); right if this file is for that one"));
                }
                Holder::Other { process, name } => {
                    what = format!("{what} (by {name}, process {process})");
                }
                Holder::Unknown => {
                    return self.note(room, &format!("{address} is taken, and by whom can't be seen from here; right if it is the gateway that this file is for"));
                }
            }
        }
        let problem = BuildProblem::new(&[room, "listen"], what, remedy);
        self.problems.push(problem);
    }

    fn note(&mut self, room: &str, what: &str) {
        self.notes.push(format!("{room}.listen: {what}"));
    }
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
