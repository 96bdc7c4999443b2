//! `livy-gateway registry`: the registry as a whole, on the command line.

use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;

use super::shared::{self, ConfigFile, Format};
use crate::clock::millis;
use crate::config::{self, Config};
use crate::registry::archive;

#[derive(Debug, Subcommand)]
pub(super) enum Registry {
    /// Writes every batch as a line of JSON, as it is at this moment; a gateway may be running.
    #[command(
        after_help = "Example:\n  livy-gateway registry export -c routes.yaml -o batches.jsonl"
    )]
    Export(Export),
    /// Reads batches from lines of JSON, all of them or none; no gateway may be running.
    #[command(
        after_help = "Examples:\n  livy-gateway registry import -c routes.yaml batches.jsonl\n  \
        livy-gateway registry export -c sqlite.yaml | livy-gateway registry import -c postgres.yaml -\n  \
        echo '{\"id\": 17, \"cluster\": \"onprem\", \"upstream_id\": 5, \"owner\": \"ann\", \"name\": \"nightly\", \"state\": \"running\"}' | \
        livy-gateway registry import -c routes.yaml -"
    )]
    Import(Import),
    /// Removes what was over long ago, and nothing that lives or may still show up. Without --yes it
    /// only says how much.
    #[command(
        after_help = "Example:\n  livy-gateway registry prune -c routes.yaml --older-than 30d --yes"
    )]
    Prune(Prune),
    /// Counts batches by cluster and state; a gateway may be running.
    #[command(after_help = "Example:\n  livy-gateway registry stats -c routes.yaml --format json")]
    Stats(Look),
    /// Looks whether the database is whole and all in it can be; a gateway may be running.
    #[command(after_help = "Example:\n  livy-gateway registry verify -c routes.yaml")]
    Verify(Look),
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    config: ConfigFile,
    /// Where to (default: stdout). Appears when it is whole.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    config: ConfigFile,
    /// The lines; `-` is stdin.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    #[command(flatten)]
    config: ConfigFile,
    /// How long ago it must have ended, by the clock and by the time that gateways have been running.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Duration,
    /// Removes it.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Look {
    #[command(flatten)]
    config: ConfigFile,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "wanted for instance 12h or 30d".to_owned())
}

pub(super) fn run(command: Registry) -> Result<(), String> {
    match command {
        Registry::Export(export) => export.run(),
        Registry::Import(import) => import.run(),
        Registry::Prune(prune) => prune.run(),
        Registry::Stats(look) => look.stats(),
        Registry::Verify(look) => look.verify(),
    }
}

fn load(file: &ConfigFile) -> Result<Config, String> {
    let loaded = config::load(&file.path).map_err(|problems| problems.render())?;
    Ok(loaded.config)
}

impl Export {
    fn run(self) -> Result<(), String> {
        let config = load(&self.config)?;
        let runtime = shared::runtime()?;
        let Some(path) = &self.output else {
            let mut out = BufWriter::new(std::io::stdout());
            let written = runtime.block_on(archive::export(&config.registry, &mut out));
            return written.map(drop).map_err(of_registry);
        };
        // Whoever finds the file finds all of it.
        let part = beside(path);
        let file = std::fs::File::create(&part).map_err(|error| at(&part, &error))?;
        let mut out = BufWriter::new(file);
        let written = runtime.block_on(archive::export(&config.registry, &mut out));
        let kept = written.map_err(of_registry).and_then(|batches| {
            let whole = out.into_inner().map_err(|error| error.to_string());
            let synced = whole.and_then(|file| file.sync_all().map_err(|error| at(&part, &error)));
            synced?;
            std::fs::rename(&part, path).map_err(|error| at(path, &error))?;
            Ok(batches)
        });
        match kept {
            Ok(batches) => tell(&format!(
                "{}: {}",
                path.display(),
                several(batches, "batch", "batches")
            )),
            Err(why) => {
                let _ = std::fs::remove_file(&part);
                Err(why)
            }
        }
    }
}

impl Import {
    fn run(self) -> Result<(), String> {
        let config = load(&self.config)?;
        let is_stdin = self.input == Path::new("-");
        let mut lines: Box<dyn BufRead + Send> = match is_stdin {
            true => Box::new(BufReader::new(std::io::stdin())),
            false => {
                let file =
                    std::fs::File::open(&self.input).map_err(|error| at(&self.input, &error))?;
                Box::new(BufReader::new(file))
            }
        };
        let name = match is_stdin {
            true => "stdin".to_owned(),
            false => self.input.display().to_string(),
        };
        let clusters = config
            .clusters
            .iter()
            .map(|cluster| cluster.name.clone())
            .collect();
        let wall_ms = now_ms();
        let work = archive::import(
            &config.registry,
            lines.as_mut(),
            &name,
            &clusters,
            wall_ms,
            self.dry_run,
        );
        let done = shared::runtime()?.block_on(work);
        let done = done.map_err(|why| match why.starts_with(&format!("{name}:")) {
            true => why,
            false => of_registry(why),
        })?;
        for (cluster, lines) in &done.strange {
            let lines = several(*lines, "batch is", "batches are");
            tell(&format!(
                "note: {lines} of {cluster:?}, a cluster that the configuration does not have"
            ))?;
        }
        let head = if self.dry_run { "would import: " } else { "" };
        let text = format!(
            "{name}: {head}{} new, {} brought up to date; {} here already, of which {} newer here",
            done.new,
            done.newer,
            done.same + done.older,
            done.older
        );
        tell(&text)
    }
}

impl Prune {
    fn run(self) -> Result<(), String> {
        let config = load(&self.config)?;
        let work = archive::prune(&config.registry, self.older_than, now_ms(), self.yes);
        let pruned = shared::runtime()?.block_on(work).map_err(of_registry)?;
        if pruned.uptime < self.older_than {
            tell(&format!(
                "note: gateways have been running on this registry for {:?} in all, and nothing ended longer ago than that by their time",
                Duration::from_secs(pruned.uptime.as_secs())
            ))?;
        }
        let of = several(pruned.of, "batch", "batches");
        shared::say(&match self.yes {
            true => format!("removed {} of {of}\n", pruned.over),
            false => format!("would remove {} of {of}; --yes does it\n", pruned.over),
        })
    }
}

impl Look {
    fn stats(self) -> Result<(), String> {
        let config = load(&self.config)?;
        let stats = shared::runtime()?.block_on(archive::stats(&config.registry));
        let stats = stats.map_err(of_registry)?;
        shared::say(&match self.format {
            Format::Json => format!("{}\n", json!(stats)),
            Format::Text => table(&stats),
        })
    }

    fn verify(self) -> Result<(), String> {
        let config = load(&self.config)?;
        let checks = shared::runtime()?.block_on(archive::verify(&config.registry));
        let checks = checks.map_err(of_registry)?;
        let failed = checks
            .iter()
            .filter(|check| !check.wrong.is_empty())
            .count();
        shared::say(&match self.format {
            Format::Json => {
                let checks = checks.iter().map(|check| json!({"check": check.well, "ok": check.wrong.is_empty(), "wrong": check.wrong, "more": check.more}));
                let checks: Vec<_> = checks.collect();
                format!("{}\n", json!({"ok": failed == 0, "checks": checks}))
            }
            Format::Text => checks.iter().map(verdict).collect(),
        })?;
        match (failed, self.format) {
            (0, _) => Ok(()),
            // It is all in the JSON.
            (_, Format::Json) => Err(String::new()),
            (failed, Format::Text) => Err(format!(
                "registry: {failed} of {} checks failed",
                checks.len()
            )),
        }
    }
}

fn verdict(check: &archive::Check) -> String {
    if check.wrong.is_empty() {
        return format!("ok     {}\n", check.well);
    }
    let wrong = check.wrong.iter().map(|line| format!("         {line}\n"));
    let more = match check.more {
        0 => String::new(),
        more => format!("         and {more} more\n"),
    };
    format!(
        "WRONG  not so: {}\n{}{more}",
        check.well,
        wrong.collect::<String>()
    )
}

fn table(stats: &archive::Stats) -> String {
    let mut rows = vec![
        [
            "cluster", "batches", "live", "starting", "running", "success", "dead", "killed",
            "error", "refused", "deleted", "oldest", "newest",
        ]
        .map(str::to_owned),
    ];
    for (name, of) in &stats.clusters {
        let state = |state: &str| of.states.get(state).copied().unwrap_or(0).to_string();
        let day = |ms: Option<i64>| {
            ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
                .map_or("-".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
        };
        rows.push([
            name.clone(),
            of.batches.to_string(),
            of.live.to_string(),
            state("starting"),
            state("running"),
            state("success"),
            state("dead"),
            state("killed"),
            state("error"),
            of.refused.to_string(),
            of.deleted.to_string(),
            day(of.oldest_ms),
            day(of.newest_ms),
        ]);
    }
    let width = |at: usize| {
        rows.iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..13).map(width).collect();
    let line = |row: &[String; 13]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| match at {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    let head = format!(
        "{} {}, schema {}, {}; {}, highest id {}, in use for {:?}\n",
        stats.store,
        stats.at,
        stats.schema,
        bytesize::ByteSize(stats.bytes),
        several(
            u64::try_from(stats.batches).unwrap_or(0),
            "batch",
            "batches"
        ),
        stats.highest_id,
        Duration::from_secs(u64::try_from(stats.uptime_ms / 1_000).unwrap_or(0)),
    );
    head + &rows.iter().map(line).collect::<String>()
}

fn now_ms() -> i64 {
    millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    name.into()
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn of_registry(why: String) -> String {
    format!("registry: {why}")
}

fn several(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Says something to whoever runs the command; stdout may be lines.
fn tell(text: &str) -> Result<(), String> {
    writeln!(std::io::stderr(), "{text}").map_err(|error| error.to_string())
}
