//! What is printed: a table of everything that must be zero, and the whole story of the first
//! violations.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::judge::{Verdict, Violation, tag_of};
use crate::submission::{Submission, Wrong, clock, shortened};
use crate::world::{Lane, World};
use testkit::fault_proxy::Record;

/// Of the first column.
const WIDTH: usize = 54;
/// Longest part of a story.
const LINES: usize = 40;

/// Returns the table.
pub(crate) fn table(world: &World, verdict: &Verdict) -> String {
    let flavors: Vec<&str> = world.lanes.iter().map(|lane| lane.flavor).collect();
    let mut rows: Vec<(String, Vec<usize>)> = vec![(
        "submissions".into(),
        world.lanes.iter().map(Lane::total).collect(),
    )];
    let mut counts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (what, flavor, count) in &verdict.counts {
        let row = counts.entry(what).or_insert_with(|| vec![0; flavors.len()]);
        if let Some(at) = flavors.iter().position(|known| known == flavor) {
            row[at] += count;
        }
    }
    rows.extend(
        counts
            .into_iter()
            .map(|(what, row)| (format!("  {what}"), row)),
    );
    for wrong in Wrong::ALL {
        let of = |flavor: &&str| {
            verdict
                .violations
                .iter()
                .filter(|one| one.wrong == wrong && *one.flavor == **flavor)
                .count()
        };
        rows.push((
            format!("! {}", wrong.words()),
            flavors.iter().map(of).collect(),
        ));
    }
    let mut lines: Vec<String> = vec![
        flavors
            .iter()
            .map(|flavor| format!("{flavor:>10}"))
            .collect::<String>(),
    ];
    lines[0].insert_str(0, &" ".repeat(WIDTH));
    lines.extend(rows.iter().map(|(what, row)| {
        let cells: String = row.iter().map(|count| format!("{count:>10}")).collect();
        format!("{what:<WIDTH$}{cells}")
    }));
    lines.join("\n")
}

/// Returns what the proxies did, in numbers.
pub(crate) fn faults(world: &World) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for record in world.lanes.iter().flat_map(|lane| lane.proxy.records()) {
        *counts.entry(record.action.word()).or_default() += 1;
    }
    counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Tells the first violations of each kind whole, and names the others.
pub(crate) fn stories(world: &World, verdict: &Verdict) -> String {
    let logs: Vec<String> = world.gateways.iter().map(|one| one.log()).collect();
    let log = logs.concat();
    let mut text = String::new();
    for wrong in Wrong::ALL {
        for lane in &world.lanes {
            let of_kind = verdict
                .violations
                .iter()
                .filter(|one| one.wrong == wrong && one.flavor == lane.flavor);
            for (at, violation) in of_kind.enumerate() {
                let _ = writeln!(
                    text,
                    "{}: {}: {}",
                    wrong.words().to_uppercase(),
                    violation.tag,
                    violation.what
                );
                if at < world.wish.stories {
                    text.push_str(&story(world, lane, verdict, violation, &log));
                }
            }
        }
    }
    text
}

fn story(
    world: &World,
    lane: &Lane,
    verdict: &Verdict,
    violation: &Violation,
    log: &str,
) -> String {
    let submission = lane
        .submissions()
        .into_iter()
        .find(|submission| submission.tag == violation.tag);
    let jobs: Vec<&Value> = verdict
        .books
        .get(lane.flavor)
        .into_iter()
        .flatten()
        .filter(|job| tag_of(job) == violation.tag)
        .collect();
    let mut parts = Vec::new();
    if let Some(submission) = &submission {
        let client = submission.client();
        let who = format!(
            "client ({:?}, {}, name {:?})",
            submission.manners, submission.login.0, submission.name
        );
        parts.push((who, client.story.clone()));
    }
    let mine = |record: &&Record| is_about(record, &violation.tag, &jobs);
    let at_proxy: Vec<String> = lane
        .proxy
        .records()
        .iter()
        .filter(mine)
        .map(|record| passage(world, record))
        .collect();
    parts.push(("proxy".to_owned(), at_proxy));
    parts.push((
        "books".to_owned(),
        jobs.iter().map(ToString::to_string).collect(),
    ));
    parts.push((
        "gateway's log".to_owned(),
        log_lines(log, &violation.tag, submission.as_deref()),
    ));
    let mut text = String::new();
    for (what, lines) in parts {
        let _ = writeln!(text, "  {what}:");
        // The middle of a long part is the dullest.
        let cut = lines.len().saturating_sub(LINES);
        for (at, line) in lines.iter().enumerate() {
            match at.checked_sub(LINES / 2) {
                Some(past) if past < cut => {
                    if past == 0 {
                        let _ = writeln!(text, "    … {cut} lines …");
                    }
                }
                _ => {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
    }
    let _ = writeln!(
        text,
        "  what else happened to the gateway and to {}:",
        lane.flavor
    );
    let events = world.events.lock().expect("no panic holds it").clone();
    let own = |line: &&String| {
        line.contains(&format!(" {}: ", lane.flavor))
            || line.contains("gateway")
            || line.contains(" kill ")
    };
    for line in events.iter().filter(own) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// Tells whether a request was about this submission: by its body, by the id of the client's
/// request, or by what its jobs are called.
fn is_about(record: &Record, tag: &str, jobs: &[&Value]) -> bool {
    let quoted = format!("\"{tag}\"");
    let by_id = record.seen.request_id.as_ref().is_some_and(|id| {
        id.strip_prefix(tag)
            .is_some_and(|rest| rest.starts_with('-'))
    });
    let called = |key: &str| {
        jobs.iter()
            .filter_map(|job| job[key].as_str())
            .any(|word| record.seen.path.contains(word))
    };
    // Looks at its state are the dullest of all.
    let dull = record.seen.operation() == "get_state" && record.cluster_said == Some(200);
    record.seen.body.contains(&quoted) || by_id || ((called("name") || called("uuid")) && !dull)
}

fn passage(world: &World, record: &Record) -> String {
    let since = |at: std::time::Instant| clock(at.saturating_duration_since(world.began));
    let said = match (record.cluster_said, record.answered) {
        (Some(status), Some(at)) => format!("the cluster said {status} at {}", since(at).trim()),
        _ => "the cluster did not say anything".to_owned(),
    };
    let (seen, action) = (&record.seen, &record.action);
    let id = seen.request_id.as_deref().unwrap_or("no request id");
    format!(
        "{} {} {} ({id}): {action:?}; {said}",
        since(record.came),
        seen.method,
        shortened(&seen.path)
    )
}

/// Finds what the gateway logged about a submission: under the ids of its requests, and under those
/// of its batches.
fn log_lines(log: &str, tag: &str, submission: Option<&Submission>) -> Vec<String> {
    let mut wanted = vec![format!("\"{tag}-post-"), format!("\"{tag}-delete-")];
    let ids = submission
        .map(|submission| submission.client().ids.clone())
        .unwrap_or_default();
    wanted.extend(ids.iter().map(|id| format!("\"batch\":\"{id}\"")));
    log.lines()
        .filter(|line| wanted.iter().any(|word| line.contains(word)))
        .map(shortened)
        .collect()
}
