//! `livy-gateway check`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::Format;
use crate::config::{self, Problems};
use crate::engine::build;
use crate::gateway::Snapshot;
use crate::observe::metrics::Metrics;

pub(super) fn run(path: &Path, probe: bool, format: Format) -> Result<(), String> {
    let runtime = super::runtime()?;
    let checked = runtime.block_on(async { build(path) });
    let problems = checked
        .as_ref()
        .err()
        .map(|problems| problems.list.as_slice())
        .unwrap_or_default();
    match format {
        Format::Json => super::say(&format!(
            "{}\n",
            json!({"file": path, "ok": problems.is_empty(), "problems": problems})
        ))?,
        Format::Text if problems.is_empty() => super::say(&format!("{}: ok\n", path.display()))?,
        Format::Text => {}
    }
    match checked {
        Err(problems) if format == Format::Text => Err(problems.render()),
        Err(_) => Err(String::new()),
        Ok(snapshot) if probe => runtime.block_on(ask_all(&snapshot, format)),
        Ok(_) => Ok(()),
    }
}

fn build(path: &Path) -> Result<Snapshot, Problems> {
    let metrics = Arc::new(Metrics::new());
    let loaded = config::load(path)?;
    let built = build::build(loaded.config.clone(), &loaded.masked(), None, &metrics)
        .map_err(|found| loaded.locate(found))?;
    Ok(built.into_snapshot(None, &metrics))
}

/// Asks every cluster whether it is alive, and reads every key set.
async fn ask_all(snapshot: &Snapshot, format: Format) -> Result<(), String> {
    let mut failed = Vec::new();
    let mut tell = |what: String, verdict: Result<(), String>| {
        let line = match &verdict {
            Ok(()) => format!("{what}: ok"),
            Err(why) => format!("{what}: {why}"),
        };
        if verdict.is_err() {
            failed.push(line.clone());
        }
        if format == Format::Text {
            super::say(&format!("{line}\n"))
        } else {
            Ok(())
        }
    };
    for (name, upstream) in &snapshot.upstreams {
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
    match failed.as_slice() {
        [] => Ok(()),
        _ if format == Format::Json => Err(failed.join("\n")),
        _ => Err(format!("{} of the probes failed", failed.len())),
    }
}
