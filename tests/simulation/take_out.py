#!/usr/bin/env python3
"""Takes one fix of the gateway out after the other, and tells which seed of the simulation finds it.

    tests/simulation/take_out.py            all of them, about fifteen minutes on two cores
    tests/simulation/take_out.py m4 m7b     some

It works on a copy of the last commit in `target/taken-out`; nothing of this tree changes. Exit status 1 if one is not found.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "taken-out"
SEEDS = "1000"


class Edit:
    """Text to replace in a file; that it is there is checked, so that a change of the code does not pass for a fix that is found."""

    def __init__(self, path, old, new):
        self.path, self.old, self.new = path, old, new

    def apply(self):
        path = COPY / self.path
        text = path.read_text()
        if self.old not in text:
            sys.exit(f"{self.path} has changed; mend the edit: {self.old!r}")
        path.write_text(text.replace(self.old, self.new, 1))


QUIET = "let waited = self.waited_before + asked.saturating_duration_since(self.last_byte);"
QUIET_BY_THE_WALL = """let wall = self.gateway.registry.clock().now().wall_ms;
            let since = *self.wall.get_or_insert(wall - crate::clock::millis(asked.saturating_duration_since(self.last_byte)));
            let waited = self.waited_before + Duration::from_millis(u64::try_from(wall - since).unwrap_or(0));"""
LIFE = "if self.gateway.registry.life() != self.life {"
LIFE_OUT = "if false && self.gateway.registry.life() != self.life {"
MISSING = "        entry.missing_for() >= upstream.config.lost_after &&"
MISSING_BY_THE_WALL = """        static SINCE: std::sync::Mutex<std::collections::BTreeMap<(usize, i32), i64>> =
            std::sync::Mutex::new(std::collections::BTreeMap::new());
        let wall = self.gateway.registry.clock().now().wall_ms;
        let fresh = entry.missing_for().is_zero();
        let key = (std::sync::Arc::as_ptr(&self.gateway) as usize, entry.id.0);
        let missing = {
            let mut since = SINCE.lock().unwrap();
            if fresh { since.insert(key, wall); }
            wall - *since.entry(key).or_insert(wall)
        };
        missing >= crate::clock::millis(upstream.config.lost_after) &&"""

MISSING_SINCE_THE_FIRST = """        static SINCE: std::sync::Mutex<std::collections::BTreeMap<(usize, i32), tokio::time::Instant>> =
            std::sync::Mutex::new(std::collections::BTreeMap::new());
        let now = tokio::time::Instant::now();
        let heard = entry.peek(|known| known.heard);
        let key = (std::sync::Arc::as_ptr(&self.gateway) as usize, entry.id.0);
        let since = {
            let mut all = SINCE.lock().unwrap();
            let one = all.entry(key).or_insert(now);
            if heard.is_some_and(|heard| heard > *one) { *one = now; }
            *one
        };
        since.elapsed() >= upstream.config.lost_after &&"""

FIXES = {
    "m1": (
        "a missing name is the same name",
        [Edit("src/registry/decide/same.rs", "(Some(_), None) if seen.name_shown => return Same::No,", "(Some(_), None) if seen.name_shown => return Same::Yes,")],
    ),
    "m2": (
        "five seconds of 404 are absence",
        [Edit("src/registry/decide/absence.rs", "    let left = |needed: Duration| {", "    let needed = needed.min(Duration::from_secs(5));\n    let terms = Terms { held_for: needed, ..terms };\n    let left = |needed: Duration| {")],
    ),
    "m3": (
        "a 503 says that nothing was created",
        [
            Edit(
                "src/dialect/proof.rs",
                "        Err(fault) if fault.kind.is_own_refusal() =>",
                "        Err(fault) if fault.status == 503 => Proof::NotCreated(fault),\n        Err(fault) if fault.kind.is_own_refusal() =>",
            )
        ],
    ),
    "m4": (
        "a kill believes one 404",
        [Edit("src/batches/kill.rs", "        if self.is_lost(entry, upstream).await {", "        let _ = upstream;\n        if true {")],
    ),
    "m5": (
        "a batch has two memories",
        [
            Edit(
                "src/registry/memory.rs",
                "if let Some(entry) = pinned.get(&id).and_then(Weak::upgrade) {",
                "if let Some(entry) = pinned.get(&id).and_then(Weak::upgrade).filter(|_| false) {",
            )
        ],
    ),
    "m6a": (
        "proof of absence frees no key",
        [
            Edit("src/registry/row.rs", " || (self.absent && !self.kill_asked)", ""),
        ],
    ),
    "m6b": (
        "clusters are considered before keys",
        [
            Edit(
                "src/submit/mod.rs",
                "        let joined = match client.here_already().await? {",
                "        let _ = client.here_already().await; let joined = match None::<Arc<Entry>> {",
            )
        ],
    ),
    "m7a": (
        "silence is counted by the wall clock",
        [
            Edit("src/submit/resolve.rs", QUIET, QUIET_BY_THE_WALL),
            Edit("src/registry/decide/absence.rs", "needed.saturating_sub(silence.lasts());", "needed.saturating_sub(silence.lasts().max(waited));"),
            Edit("src/submit/resolve.rs", "    /// Another cluster may have it when", "    /// Taken out.\n    pub wall: Option<i64>,\n    /// Another cluster may have it when"),
            Edit("src/submit/resolve.rs", "gives_way: false", "wall: None,\n        gives_way: false"),
            Edit("src/submit/attempt.rs", "gives_way: others", "wall: None,\n            gives_way: others"),
            Edit(
                "src/submit/resolve.rs",
                "(self.last_byte, self.waited_before) = (Instant::now(), Duration::ZERO);",
                "(self.last_byte, self.waited_before) = (Instant::now(), Duration::ZERO); self.wall = None;",
            ),
        ],
    ),
    "m7b": ("a lost batch is told by the wall clock", [Edit("src/batches/missing.rs", MISSING, MISSING_BY_THE_WALL)]),
    "m7c": (
        "keys and rows are forgotten by the wall clock",
        [Edit("src/clock.rs", "self.wall_ms < now.wall_ms && self.up_ms < now.up_ms", "self.wall_ms < now.wall_ms")],
    ),
    "m9": (
        "IBM: a lost answer is an error at once",
        [
            Edit("src/submit/resolve.rs", "                    (_, Absence::NotYet(_)) =>", "                    _ if true => return self.give_up(SEVERAL).await,\n                    (_, Absence::NotYet(_)) =>"),
            Edit(
                "src/submit/resolve.rs",
                "                News::Nothing => match verdict {",
                "                News::Nothing if self.upstream.dialect().lookup(&self.entry.lookup) == LookupPlan::NewInList => "
                "return self.give_up(NOBODY_KNOWS).await,\n                News::Nothing => match verdict {",
            ),
        ],
    ),
    "m11": (
        "one 404 of a cluster that was away is absence",
        [Edit("src/registry/decide/absence.rs", "let needed = if silence.away {", "let needed = if true { Duration::ZERO } else if silence.away {")],
    ),
    "m12": (
        "a refusal is believed without a look",
        [Edit("src/submit/behind.rs", "    if dialect.lookup(&entry.lookup) == LookupPlan::NewInList {\n        return Behind::Nothing;", "    if true {\n        return Behind::Nothing;")],
    ),
    "m13": (
        "showing an id is not noted",
        [Edit("src/registry/entry.rs", "            known.shown |= visible;\n            known.told |= news;\n", "")],
    ),
    "m17": (
        "two single 404s are a silence",
        [
            Edit("src/batches/missing.rs", MISSING, MISSING_SINCE_THE_FIRST),
            Edit("src/batches/missing.rs", "                self.go_on_asking(entry, upstream);\n", ""),
        ],
    ),
    "m14": (
        "one answer takes a number from what lives",
        [Edit("src/submit/whose.rs", "    let holder = match gateway.registry.live_holder(", "    if true {\n        return true;\n    }\n    let holder = match gateway.registry.live_holder(")],
    ),
    "m15": (
        "what may be another's is silence",
        [Edit("src/submit/resolve.rs", "Same::CannotTell => News::Perhaps(seen),", "Same::CannotTell => News::Nothing,")],
    ),
    "m16": (
        "a wrong number stays",
        [Edit("src/batches/alone.rs", "Same::No if has_another_number(entry, &seen) => {", "Same::No if false && has_another_number(entry, &seen) => {")],
    ),
    "r1": (
        "a save looks at no version",
        [Edit("src/registry/sqlite/statements.rs", "WHERE id = :id AND version = :version AND (CASE phase", "WHERE id = :id AND :version > 0 AND (CASE phase")],
    ),
    "r2": (
        "what the living send is taken over",
        [
            Edit(
                "tests/simulation/shared.rs",
                "if sender.is_some_and(|sender| self.shared.inside().is_alive(&sender)) {",
                "if false && sender.is_some_and(|sender| self.shared.inside().is_alive(&sender)) {",
            )
        ],
    ),
    "r3": (
        "who was taken for dead sends again",
        [
            Edit("src/submit/resolve.rs", LIFE, LIFE_OUT),
            Edit("src/submit/resolve.rs", "dead.\n        " + LIFE, "dead.\n        " + LIFE_OUT),
        ],
    ),
    "r5": (
        "whoever is alive sends, also after having been dead",
        [Edit("src/submit/attempt.rs", LIFE, "if !self.gateway.registry.is_known_alive() {")],
    ),
    "r4": (
        "what another process wrote vanishes",
        [
            Edit("src/registry/decide/known.rs", "let gives_way = wanted.phase == Phase::Refused", "let gives_way = false && wanted.phase == Phase::Refused"),
            Edit("src/registry/decide/known.rs", "other.shown || stored.phase == Phase::Sending;", "other.shown;"),
        ],
    ),
    "m10": (
        "each start begins the silence anew",
        [
            Edit(
                "src/submit/resolve.rs",
                "        waited_before: span(waited_ms).unwrap_or_default(),\n        silence: Silence::taken_up(span(quiet_ms).unwrap_or_default(), gap(away_ms), now),",
                "        waited_before: { let _ = (quiet_ms, waited_ms); Duration::ZERO },\n        silence: Silence::taken_up(Duration::ZERO, gap(away_ms), now),",
            )
        ],
    ),
}


def git(*arguments, at=ROOT):
    subprocess.run(["git", *arguments], cwd=at, check=True, stdout=subprocess.DEVNULL)


def first_seed(edits):
    """Returns the first seed that breaks a promise without these fixes, and how."""
    git("checkout", "--quiet", "--force", "HEAD", at=COPY)
    for edit in edits:
        edit.apply()
    build = subprocess.run(["cargo", "build", "--quiet", "--test", "simulation"], cwd=COPY, capture_output=True, text=True)
    if build.returncode != 0:
        sys.exit(build.stderr)
    environment = {"STOP": "1", "SEEDS": SEEDS}
    command = ["env", *[f"{key}={value}" for key, value in environment.items()], "cargo", "test", "--quiet", "--test", "simulation"]
    said = subprocess.run(command, cwd=COPY, capture_output=True, text=True).stderr
    return re.search(r"^seed (\d+) \([^)]*\): at [\d.]+ s: (.*)$", said, re.MULTILINE)


def main():
    wanted = sys.argv[1:] or list(FIXES)
    if not COPY.exists():
        git("worktree", "add", "--quiet", "--detach", str(COPY), "HEAD")
    git("checkout", "--quiet", "--force", "--detach", subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip(), at=COPY)
    missed = 0
    for name in wanted:
        what, edits = FIXES[name]
        found = first_seed(edits)
        missed += found is None
        print(f"{name:<5}{what:<48}{f'seed {found[1]}: {found[2]}' if found else 'NOT FOUND'}", flush=True)
    git("worktree", "remove", "--force", str(COPY))
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
