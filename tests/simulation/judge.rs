//! The comparison of the books at the end of a run: what truly happened, what the registry holds,
//! what every client was told.

use std::collections::HashMap;

use livy_dialect::{BatchState, Flavor};
use livy_gateway::registry::{GatewayId, Phase, Row, Store as _, Visible};
use serde_json::Value;
use std::time::Duration;

use crate::client::{Kind, Outcome, Record, check_list};
use crate::house::{BEGINNING_MS, House};
use crate::run::Scene;
use crate::world::{Job, Tag, World};

/// A look-up under a name that the client chose finds a job of that name that somebody else
/// created, and takes it for the submission.
const TAKEN: &str = "KNOWN: a stranger's job was taken for ours by its name";
/// A submission whose answer was lost and that the cluster refused leaves a ghost, which is taken
/// for the batch.
const GHOST: &str = "KNOWN: a ghost was taken for the batch";
/// What the cluster had given before is not known right after a start, and without that a late job
/// under a client's name is anybody's.
const LISTED: &str = "KNOWN: a late job under a client's name was listed as somebody else's";

/// Counts what the registry has to resolve or to kill.
pub(crate) async fn open(house: &House, scene: &Scene) -> usize {
    let mut open = house.disk.pending().await.map_or(0, |rows| rows.len());
    for (name, _) in &scene.clusters {
        open += house
            .disk
            .to_kill((*name).to_owned())
            .await
            .map_or(0, |rows| rows.len());
    }
    open
}

/// After many short lives in fine weather: what the look-ups of all of them showed together is
/// enough.
pub(crate) async fn none_is_open_for_long(house: &House, scene: &Scene) {
    let now = BEGINNING_MS + livy_gateway::clock::millis(house.world.began.elapsed());
    for row in house.disk.pending().await.unwrap_or_default() {
        let ibm = scene
            .clusters
            .iter()
            .any(|(name, flavor)| *name == row.identity.cluster && *flavor == Flavor::Ibm);
        let open_ms = now - row.identity.created.wall_ms;
        if !ibm && open_ms > 140_000 {
            house.world.broken(format!(
                "batch {} is open for {open_ms} ms, though its cluster answers",
                row.identity.id
            ));
        }
    }
}

/// Lists everything, and checks what holds for every list.
async fn list_at(house: &House, which: usize) {
    let Some(heard) = house.ask_one(which, "root", "/batches?size=1000").await else {
        return;
    };
    let sessions = heard.body.get("sessions").and_then(Value::as_array);
    check_list(&house.world, "root", sessions.map_or(&[], Vec::as_slice));
}

/// Compares.
pub(crate) async fn judge(house: &House, scene: &Scene, records: &[Record], quiet: bool) {
    let world = &house.world;
    for which in 0..house.replicas() {
        list_at(house, which).await;
    }
    let rows = house
        .disk
        .list(Visible::All, None, Vec::new(), Box::new(|total| 0..total))
        .await
        .map_or(Vec::new(), |(_, rows)| rows);
    if !quiet {
        let pending = house.disk.pending().await.unwrap_or_default();
        for row in &pending {
            world.broken(format!(
                "batch {} is open for ever, on {}",
                row.identity.id, row.identity.cluster
            ));
        }
        if pending.is_empty() {
            world.count("runs in which a kill stayed open");
        }
    }
    for record in records {
        // Also one that was deleted: what it was last is still there.
        let own = match record.id.and_then(|id| i32::try_from(id).ok()) {
            Some(id) => house.disk.get(GatewayId(id)).await.ok().flatten(),
            None => None,
        };
        Case {
            world,
            scene,
            record,
            rows: &rows,
        }
        .judge(own.as_ref());
    }
    no_twins(world, &rows);
    replicas_agree(house).await;
    what_was_shown_stays(house).await;
    strangers_are_left_alone(world, records);
}

struct Case<'a> {
    world: &'a World,
    scene: &'a Scene,
    record: &'a Record,
    rows: &'a [Row],
}

impl Case<'_> {
    fn broken(&self, what: impl std::fmt::Display) {
        let Record { tag, kind, id, .. } = self.record;
        let what = format!("tag {tag} ({kind:?}, batch {id:?}): {what}");
        self.world.broken(what)
    }

    fn judge(&self, own: Option<&Row>) {
        if own.is_some_and(|row| self.stands_for_a_stranger(row)) {
            return;
        }
        let jobs: Vec<Job> = self.world.books().of(self.record.tag).cloned().collect();
        self.none_doubled(&jobs);
        self.none_killed_unasked(&jobs, own);
        self.none_lost(&jobs, own);
        self.none_wrong(&jobs, own);
        self.killed_if_asked(&jobs);
    }

    /// The job of a stranger that was found under the name that the client chose.
    fn stands_for_a_stranger(&self, row: &Row) -> bool {
        let books = self.world.books();
        let is_it = |job: &&Job| {
            job.cluster == row.identity.cluster && row.known.app_id.as_ref() == Some(&job.app_id)
        };
        let stranger = books.jobs.iter().find(is_it).filter(|job| {
            job.tag != Some(self.record.tag) && job.name.is_some() && job.name == self.record.name
        });
        let users = stranger.map(|job| (job.user.clone(), self.record.user));
        let ours_too = stranger.is_some_and(|job| job.tag.is_some());
        drop(books);
        match users {
            None => return false,
            Some((theirs, ours)) if theirs.as_deref() == Some(ours) && !ours_too => self
                .world
                .count("a stranger of the same name and user was taken for ours"),
            Some(users) => self.world.known(
                TAKEN,
                format!("tag {}: stands for the job of {users:?}", self.record.tag),
            ),
        }
        true
    }

    fn on_ibm(&self, jobs: &[Job]) -> bool {
        let row = self.record.id.and_then(|id| {
            self.rows
                .iter()
                .find(|row| i64::from(row.identity.id.0) == id)
        });
        let at_ibm = |cluster: &str| self.flavor(cluster) == Flavor::Ibm;
        let touched = jobs.is_empty()
            || jobs.iter().any(|job| at_ibm(&job.cluster))
            || row.is_some_and(|row| at_ibm(&row.identity.cluster));
        self.scene.has_ibm() && touched
    }

    fn flavor(&self, cluster: &str) -> Flavor {
        self.scene
            .clusters
            .iter()
            .find(|(name, _)| *name == cluster)
            .map_or(Flavor::Livy, |(_, flavor)| *flavor)
    }

    fn none_doubled(&self, jobs: &[Job]) {
        let counting: Vec<&Job> = jobs.iter().filter(|job| job.counts()).collect();
        // Who sends the same again without a key after an answer was lost, doubles it; a name
        // guards only while its job is there.
        let one_after_another = counting.iter().all(|one| {
            counting
                .iter()
                .all(|other| one.born <= other.born || one.born >= other.end())
        });
        let own_doing = match self.record.kind {
            Kind::Plain => true,
            Kind::Named | Kind::SharedName => one_after_another,
            Kind::Keyed | Kind::KeyedAndNamed => false,
        };
        if counting.len() > 1 && !(own_doing && self.record.unheard) {
            // It came, ended, and was forgotten in a restart, while nobody could ask.
            if counting.iter().filter(|job| !job.lost_in_restart).count() <= 1 {
                return self
                    .world
                    .count("came and went before a restart without recovery");
            }
            if self.scene.ambiguous == "failover" {
                return self.world.count("doubled under failover");
            }
            let where_: Vec<String> = counting
                .iter()
                .map(|job| format!("{}/{}", job.cluster, job.id))
                .collect();
            if self.on_ibm(jobs) {
                return self.world.count("doubled on IBM");
            }
            self.broken(format!("doubled: {}", where_.join(", ")));
        }
        if !counting.is_empty() && self.record.outcome == Outcome::Refused {
            if counting.iter().all(|job| job.lost_in_restart) {
                return self
                    .world
                    .count("came and went before a restart without recovery");
            }
            if self.on_ibm(jobs) {
                return self.world.count("refused and run on IBM");
            }
            if self.scene.ambiguous == "failover" {
                return self.world.count("refused and run under failover");
            }
            self.broken("its client was told that nothing was submitted, and it ran");
        }
    }

    /// A job is killed because its owner asked, or because its client was told that it is not
    /// there.
    fn none_killed_unasked(&self, jobs: &[Job], own: Option<&Row>) {
        if self.record.kill_asked.is_some() {
            return;
        }
        let errors = self
            .record
            .told
            .iter()
            .any(|told| told.state == BatchState::Error)
            || own.is_some_and(|row| row.known.state == BatchState::Error);
        let unanswered = self.record.outcome != Outcome::Created;
        for job in jobs
            .iter()
            .filter(|job| !job.deleted.is_empty() && !job.counts())
        {
            let another = jobs.iter().filter(|job| job.counts()).count() > 0;
            if !errors && !unanswered && !another && self.record.kind != Kind::Plain {
                self.broken(format!(
                    "{}/{} was killed, and nobody asked for it",
                    job.cluster, job.id
                ));
            }
        }
    }

    fn none_lost(&self, jobs: &[Job], own: Option<&Row>) {
        if self.record.outcome == Outcome::Created
            && own.is_none()
            && self.record.kill_asked.is_none()
        {
            self.broken(format!(
                "{:?} is not in the registry any more",
                self.record.id
            ));
        }
        // A job that counts has a row of its own.
        for job in jobs
            .iter()
            .filter(|job| job.counts() && job.forgotten.is_none())
        {
            let rows = self.rows_of(job);
            if rows.is_empty() && self.record.kill_asked.is_none() {
                if self.flavor(&job.cluster) == Flavor::Ibm {
                    self.world.count("not listed on IBM");
                } else if self.scene.ambiguous == "failover" {
                    self.world.count("came and went unseen under failover");
                } else {
                    self.broken(format!(
                        "{}/{} ran, and no batch stands for it",
                        job.cluster, job.id
                    ));
                }
            }
        }
    }

    fn rows_of(&self, job: &Job) -> Vec<&Row> {
        let is_it = |row: &&Row| {
            row.identity.cluster == job.cluster && row.known.app_id.as_ref() == Some(&job.app_id)
        };
        self.rows.iter().filter(is_it).collect()
    }

    fn none_wrong(&self, jobs: &[Job], own: Option<&Row>) {
        let states = self
            .record
            .told
            .iter()
            .map(|told| (told.at, told.state, told.reason.clone()));
        let last = own.map(|row| {
            let reason = row.known.app_info.get("gatewayReason").cloned().flatten();
            (tokio::time::Instant::now(), row.known.state, reason)
        });
        let reason_at_last = last.as_ref().and_then(|(_, _, reason)| reason.clone());
        for (at, state, reason) in states.chain(last) {
            let presumed = reason.is_some() || reason_at_last.is_some();
            let fits = match state {
                BatchState::Starting | BatchState::Running => true,
                BatchState::Error => return self.judge_error(jobs, at, reason.or(reason_at_last)),
                state => jobs
                    .iter()
                    .any(|job| job.last_state() == state && job.end() <= at),
            };
            if !fits && presumed && self.on_ibm(jobs) {
                return self.world.count("presumed wrongly on IBM");
            }
            // A kill that was carried out is the end that was asked for, whatever the cluster said
            // last.
            let asked_for = state == BatchState::Killed && self.record.kill_asked.is_some();
            if !fits && !asked_for {
                return self.broken(format!("was shown as {state}, which no job of it was"));
            }
        }
        let Some(row) = own else { return };
        if let Some(app) = &row.known.app_id
            && !jobs.iter().any(|job| job.app_id == *app)
        {
            if reason_at_last.is_some() && self.on_ibm(jobs) {
                return self.world.count("presumed wrongly on IBM");
            }
            self.broken(format!("shows the application {app}, which is another's"));
        }
        if !row.known.state.is_terminal() && self.record.kill_asked.is_none() {
            let books = self.world.books();
            let is_ghost = |job: &Job| {
                job.ghost
                    && job.tag == Some(self.record.tag)
                    && row.known.phase.upstream_id() == Some(job.id.as_str())
            };
            let ghost = books.jobs.iter().any(is_ghost);
            drop(books);
            let what = format!("tag {}: is {} for ever", self.record.tag, row.known.state);
            if ghost {
                self.world.known(GHOST, what)
            } else {
                self.world.broken(what)
            }
        }
    }

    /// `error` is told of what never came to be, or is gone: never of a job that its cluster shows.
    fn judge_error(&self, jobs: &[Job], at: tokio::time::Instant, reason: Option<String>) {
        for job in jobs.iter().filter(|job| job.counts()) {
            if job.forgotten.is_some_and(|forgotten| forgotten <= at) {
                continue;
            }
            let reason = reason.clone().unwrap_or_default();
            if self.flavor(&job.cluster) == Flavor::Ibm && !reason.is_empty() {
                return self
                    .world
                    .count("error on IBM though the job ran, with a reason");
            }
            if self.scene.ambiguous == "failover" && self.scene.clusters.len() > 1 {
                return self
                    .world
                    .count("error though another cluster has it, under failover");
            }
            if reason.contains("may have been this one or another") {
                return self
                    .world
                    .count("error told of what could not be told apart");
            }
            let what = format!(
                "error was told ({reason}), and {}/{} ran",
                job.cluster, job.id
            );
            // No cluster says for as long as `lost_after` that it knows nothing.
            return if reason.contains("no longer knows") {
                self.world.broken(what)
            } else {
                self.broken(what)
            };
        }
        self.world.count("errors told of what is not there");
    }

    fn killed_if_asked(&self, jobs: &[Job]) {
        let Some(asked) = self
            .record
            .kill_asked
            .filter(|_| self.record.kill_confirmed.is_some())
        else {
            return;
        };
        for job in jobs
            .iter()
            .filter(|job| job.counts() && job.natural_end() > asked + Duration::from_secs(200))
        {
            let stands_for_it = |row: &Row| {
                row.identity.cluster == job.cluster
                    && row.known.phase.upstream_id() == Some(job.id.as_str())
                    && Some(i64::from(row.identity.id.0)) != self.record.id
            };
            // Nothing of this service says whose it is; it was taken for another one's.
            if self.flavor(&job.cluster) == Flavor::Ibm && self.rows.iter().any(stands_for_it) {
                self.world
                    .count("kills on IBM of what was taken for another's");
                continue;
            }
            self.broken(format!(
                "its end was asked for, and {}/{} ran on",
                job.cluster, job.id
            ));
        }
    }
}

/// Whoever was shown an id can ask for it, unless it was deleted.
async fn what_was_shown_stays(house: &House) {
    let shown = house.world.books().shown.clone();
    for id in shown.into_iter().filter_map(|id| i32::try_from(id).ok()) {
        let row = house.disk.get(GatewayId(id)).await.ok().flatten();
        if row.is_none_or(|row| row.known.phase == Phase::Refused) {
            let what = format!("batch {id} was shown to somebody, and has vanished");
            house.world.broken(what);
        }
    }
}

/// After the calm every replica shows the same.
async fn replicas_agree(house: &House) {
    if house.replicas() == 1 {
        return;
    }
    let shown = house.world.books().shown.clone();
    let face = |batch: &Value| {
        let text = |at: &str| batch.pointer(at).cloned().unwrap_or(Value::Null);
        (
            text("/state"),
            text("/appId"),
            text("/appInfo/gatewayReason"),
        )
    };
    for id in shown {
        let mut views = Vec::new();
        for which in 0..house.replicas() {
            let heard = house
                .ask_one(which, "root", &format!("/batches/{id}"))
                .await;
            views.push(heard.map(|heard| (heard.status, face(&heard.body))));
        }
        if views.iter().any(|view| *view != views[0]) {
            let what = format!("batch {id} is shown as {views:?}");
            house.world.broken(what);
        }
    }
}

/// No job has two batches.
fn no_twins(world: &World, rows: &[Row]) {
    let mut by_application: HashMap<(&str, &str), Vec<&Row>> = HashMap::new();
    for row in rows {
        if let Some(app) = &row.known.app_id {
            by_application
                .entry((&row.identity.cluster, app))
                .or_default()
                .push(row);
        }
    }
    for ((cluster, app), rows) in by_application {
        if rows.len() > 1 {
            let namesakes = rows.iter().all(|row| {
                row.identity.name.is_some() && row.identity.name == rows[0].identity.name
            });
            let ids: Vec<String> = rows.iter().map(|row| row.identity.id.to_string()).collect();
            let what = format!("{cluster}/{app} is shown as the batches {}", ids.join(", "));
            if namesakes {
                world.known(TAKEN, what)
            } else {
                world.broken(what)
            }
        }
    }
    let books = world.books();
    let ours: Vec<(&Row, Tag, bool)> = rows
        .iter()
        .filter(|row| row.identity.adopted && matches!(row.known.phase, Phase::Bound { .. }))
        .filter_map(|row| {
            let job = books.jobs.iter().find(|job| {
                job.cluster == row.identity.cluster
                    && row.known.app_id.as_ref() == Some(&job.app_id)
            })?;
            Some((
                row,
                job.tag?,
                job.name
                    .as_ref()
                    .is_some_and(|name| !name.starts_with("livy-gateway-")),
            ))
        })
        .collect();
    let flavor = |row: &Row| {
        books
            .clusters
            .get(&row.identity.cluster)
            .map(|cluster| cluster.flavor)
    };
    let broken: Vec<(String, bool)> = ours
        .iter()
        .filter(|(row, ..)| flavor(row) != Some(Flavor::Ibm))
        .map(|(row, tag, named)| {
            let id = row.identity.id;
            (
                format!(
                    "the job of tag {tag} is listed as batch {id}, as if it were somebody else's"
                ),
                *named && flavor(row) == Some(Flavor::Livy),
            )
        })
        .collect();
    drop(books);
    for (what, named) in broken {
        if named {
            world.known(LISTED, what)
        } else {
            world.broken(what)
        }
    }
}

/// No DELETE ever reaches a job that did not come through the gateway.
fn strangers_are_left_alone(world: &World, records: &[Record]) {
    let touched: Vec<Job> = {
        let books = world.books();
        let touched = books.jobs.iter().filter(|job| {
            job.tag.is_none() && job.key.is_none() && !job.ghost && !job.deleted.is_empty()
        });
        touched.cloned().collect()
    };
    for job in touched {
        let namesakes: Vec<&Record> = records
            .iter()
            .filter(|record| record.name.is_some() && record.name == job.name)
            .collect();
        let what = format!(
            "{}/{} {:?} of {:?} is somebody else's, and was killed",
            job.cluster, job.id, job.name, job.user
        );
        if namesakes
            .iter()
            .any(|record| job.user.as_deref() == Some(record.user))
        {
            world.count("a stranger of the same name and user was killed for ours");
        } else if namesakes.is_empty() {
            world.broken(what);
        } else {
            world.known(TAKEN, what);
        }
    }
}
