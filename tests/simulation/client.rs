//! Clients as they are: some send an `Idempotency-Key` and the same again until they are answered,
//! some a name, some neither and never twice. They poll, list, kill, and write down all that they
//! are told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livy_dialect::BatchState;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::house::{Heard, House, Unheard};
use crate::hunter::{Hunt, Hunter};
use crate::world::{Tag, World};
use testkit::chance::Chance;

/// How a client makes its submission one of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It does not, and sends it once.
    Plain,
    /// By a key.
    Keyed,
    /// By a name of its own.
    Named,
    /// By a name that others use as well.
    SharedName,
    /// Both.
    KeyedAndNamed,
}

/// What a client knows of its submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has an id.
    Created,
    /// It was told that nothing was submitted.
    Refused,
    /// It knows nothing.
    Unknown,
}

/// A state that a client was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Instant,
    pub(crate) state: BatchState,
    pub(crate) reason: Option<String>,
}

/// One submission, as its client tells it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) tag: Tag,
    pub(crate) user: &'static str,
    pub(crate) kind: Kind,
    pub(crate) name: Option<String>,
    pub(crate) outcome: Outcome,
    /// Whether some send of it got no answer, so that an earlier one may be the job.
    pub(crate) unheard: bool,
    pub(crate) id: Option<i64>,
    pub(crate) told: Vec<Told>,
    /// When the client asked for the end.
    pub(crate) kill_asked: Option<Instant>,
    /// When that was confirmed.
    pub(crate) kill_confirmed: Option<Instant>,
}

/// All records of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(Arc<Mutex<Vec<Record>>>);

impl Records {
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The users; none is an admin.
pub(crate) const USERS: [&str; 2] = ["ann", "bob"];

/// A client with one submission.
pub(crate) struct Client {
    pub(crate) house: House,
    pub(crate) records: Records,
    pub(crate) record: Record,
    pub(crate) chance: Chance,
    /// The prefix of a pinned cluster, or nothing.
    pub(crate) prefix: String,
    /// When everybody stops asking.
    pub(crate) until: Instant,
    /// What somebody does who is after its batch while it is being submitted.
    pub(crate) hunt: Option<Hunt>,
}

impl Client {
    pub(crate) async fn live(mut self) {
        sleep(Duration::from_millis(self.chance.within(0..150_000))).await;
        if let Some(hunt) = self.hunt.clone() {
            let hunter = tokio::spawn(self.hunter(hunt.clone()).hunt());
            self.submit().await;
            hunt.submitted();
            let _ = hunter.await;
            let end = hunt.end();
            (self.record.kill_asked, self.record.kill_confirmed) = (end.asked, end.confirmed);
            if end.confirmed.is_some() {
                self.nothing_runs();
            }
        } else {
            self.submit().await;
            if self.record.id.is_some() {
                self.follow().await;
            }
        }
        self.records.all().push(self.record);
    }

    fn world(&self) -> &World {
        &self.house.world
    }

    fn hunter(&self, hunt: Hunt) -> Hunter {
        Hunter {
            house: self.house.clone(),
            user: self.record.user,
            name: self.record.name.clone().unwrap_or_default(),
            chance: self.world().chance(&format!("hunter/{}", self.record.tag)),
            until: self.until,
            hunt,
        }
    }

    async fn pause(&mut self, from: u64, to: u64) {
        sleep(Duration::from_millis(self.chance.within(from..to))).await;
    }

    fn body(&self) -> Value {
        let mut body =
            json!({"file": "cos://b.s/job.py", "args": [format!("tag-{}", self.record.tag)]});
        if let Some(name) = &self.record.name {
            body["name"] = json!(name);
        }
        body
    }

    async fn submit(&mut self) {
        let (tag, body) = (self.record.tag, self.body());
        let key = matches!(self.record.kind, Kind::Keyed | Kind::KeyedAndNamed)
            .then(|| format!("key-{tag}"));
        let path = format!("{}/batches", self.prefix);
        let repeats = self.record.kind != Kind::Plain;
        let mut nothings = 0;
        for _ in 0..40 {
            // Whoever wants an end does not begin anew.
            if self
                .hunt
                .as_ref()
                .is_some_and(|hunt| hunt.end().asked.is_some())
            {
                self.record.outcome = Outcome::Unknown;
                return;
            }
            let patience = Duration::from_secs(if self.chance.percent(10) { 3 } else { 120 });
            let rival = self.rival(&path, key.as_deref(), &body);
            let heard = self
                .house
                .ask(
                    self.record.user,
                    "POST",
                    &path,
                    key.as_deref(),
                    Some(&body),
                    patience,
                )
                .await;
            let heard = match rival {
                Some(rival) => self.compare(heard, rival.await).await,
                None => heard,
            };
            // Once or twice it may meet the end of what it was sent again for; then its key must be
            // free.
            let came_to_nothing = |heard: &Heard| {
                heard
                    .body
                    .get("msg")
                    .and_then(Value::as_str)
                    .is_some_and(|msg| msg.contains("came to nothing"))
            };
            nothings = if heard.as_ref().is_ok_and(came_to_nothing) {
                nothings + 1
            } else {
                0
            };
            if nothings == 3 {
                self.world().broken(format!(
                    "tag {tag}: its key is held by what came to nothing"
                ));
            }
            self.record.outcome = match &heard {
                Ok(heard) if heard.status == 201 => {
                    self.created(heard);
                    return;
                }
                // Nothing was sent to anybody.
                Err(Unheard::Away) if self.record.outcome != Outcome::Unknown => Outcome::Refused,
                Err(Unheard::Away) => Outcome::Unknown,
                Err(Unheard::Cut) => {
                    self.record.unheard = true;
                    Outcome::Unknown
                }
                Ok(heard) => match (heard.status, heard.code()) {
                    (502, "submission_unknown") | (500, _) => {
                        self.record.unheard = true;
                        Outcome::Unknown
                    }
                    // Its own name: some earlier send of it is there.
                    (400, "duplicate_name") if self.record.unheard => {
                        return self.find_by_name().await;
                    }
                    (400, "duplicate_name") => {
                        self.record.outcome = Outcome::Refused;
                        return;
                    }
                    (429 | 503, _) if self.record.unheard => Outcome::Unknown,
                    (429 | 503, _) => Outcome::Refused,
                    (400..=499, _) => {
                        self.record.outcome = Outcome::Refused;
                        return;
                    }
                    (status, code) => {
                        let what = format!("tag {tag}: a submission was answered {status} {code}");
                        self.world().broken(what);
                        return;
                    }
                },
            };
            let lost_nothing =
                matches!(heard, Err(Unheard::Away)) || self.record.outcome == Outcome::Refused;
            if (!repeats && !lost_nothing) || Instant::now() > self.until {
                return;
            }
            // Who was told that nothing was submitted may submit again, also without a key; half of
            // them do.
            if !repeats && self.chance.percent(50) {
                return;
            }
            self.pause(500, 15_000).await;
        }
    }

    /// Now and then a client that has a key sends the same twice at a time, as a job scheduler in
    /// two processes does: another replica may get it.
    fn rival(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Option<tokio::task::JoinHandle<Result<Heard, Unheard>>> {
        let mut chance = self
            .world()
            .next_chance(&format!("rival/{}", self.record.tag));
        let races = self.house.replicas() > 1 && key.is_some() && chance.percent(25);
        let (house, user) = (self.house.clone(), self.record.user);
        let (path, key) = (path.to_owned(), key?.to_owned());
        let (body, later) = (body.clone(), Duration::from_millis(chance.within(0..800)));
        races.then(|| {
            tokio::spawn(async move {
                sleep(later).await;
                let patience = Duration::from_secs(120);
                let asked = house.ask(user, "POST", &path, Some(&key), Some(&body), patience);
                asked.await
            })
        })
    }

    /// Holds two answers to one key against each other; returns the one that says more.
    async fn compare(
        &mut self,
        one: Result<Heard, Unheard>,
        other: Result<Result<Heard, Unheard>, tokio::task::JoinError>,
    ) -> Result<Heard, Unheard> {
        let other = other.unwrap_or(Err(Unheard::Cut));
        let id = |heard: &Result<Heard, Unheard>| {
            let created = heard.as_ref().ok().filter(|heard| heard.status == 201);
            created.and_then(Heard::id)
        };
        let (mine, theirs) = (id(&one), id(&other));
        if let (Some(mine), Some(theirs)) = (mine, theirs)
            && mine != theirs
            && !self.has_freed_its_key(mine.min(theirs)).await
        {
            let what = format!(
                "tag {}: its key stands for {mine} and for {theirs}",
                self.record.tag
            );
            self.world().broken(what);
        }
        let knows_nothing = |heard: &Result<Heard, Unheard>| match heard {
            Ok(heard) => heard.status == 500 || heard.status == 502,
            Err(unheard) => *unheard == Unheard::Cut,
        };
        if mine >= theirs && (mine.is_some() || knows_nothing(&one) || !knows_nothing(&other)) {
            one
        } else {
            other
        }
    }

    fn created(&mut self, heard: &Heard) {
        let (tag, id) = (self.record.tag, heard.id());
        if heard
            .headers
            .get("location")
            .and_then(|value| value.to_str().ok())
            != id
                .map(|id| format!("{}/batches/{id}", self.prefix))
                .as_deref()
        {
            self.world()
                .broken(format!("tag {tag}: 201 with a strange Location"));
        }
        self.record.outcome = Outcome::Created;
        self.record.id = id;
        self.note(&heard.body);
    }

    async fn find_by_name(&mut self) {
        let Some(name) = self
            .record
            .name
            .clone()
            .filter(|_| self.record.kind != Kind::SharedName)
        else {
            self.record.outcome = Outcome::Unknown;
            return;
        };
        for _ in 0..20 {
            match self
                .house
                .ask(
                    self.record.user,
                    "GET",
                    &format!("/batches/{name}"),
                    None,
                    None,
                    Duration::from_secs(60),
                )
                .await
            {
                Ok(heard) if heard.status == 200 => {
                    self.record.outcome = Outcome::Created;
                    self.record.id = heard.id();
                    // Found by name it may be anybody's of that name: the key says nothing about
                    // it.
                    self.record.kind = Kind::Named;
                    return self.note(&heard.body);
                }
                Ok(heard) if heard.status == 404 => {
                    self.record.outcome = Outcome::Unknown;
                    return;
                }
                _ => self.pause(1000, 5000).await,
            }
        }
        self.record.outcome = Outcome::Unknown;
    }

    /// Writes down what a batch was shown as, and holds it against what was shown before.
    fn note(&mut self, batch: &Value) {
        let tag = self.record.tag;
        if batch.get("appInfo").is_some() {
            let name = batch.get("name").and_then(Value::as_str);
            if name != self.record.name.as_deref() {
                self.world()
                    .broken(format!("tag {tag}: shown with the name {name:?}"));
            }
            if batch.get("owner").and_then(Value::as_str) != Some(self.record.user) {
                self.world().broken(format!(
                    "tag {tag}: shown with the owner {}",
                    batch["owner"]
                ));
            }
        }
        let Some(state) = batch
            .get("state")
            .and_then(Value::as_str)
            .and_then(BatchState::from_word)
        else {
            return self.world().broken(format!(
                "tag {tag}: shown with the state {}",
                batch["state"]
            ));
        };
        let reason = batch
            .pointer("/appInfo/gatewayReason")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let before = self.record.told.last();
        let goes_back = |last: &Told| {
            let running = last.state == BatchState::Running && state == BatchState::Starting;
            let ended = last.state.is_terminal() && last.state != state;
            ended || (running && self.house.replicas() > 1)
        };
        if before.is_some_and(|last| goes_back(last) && self.house.may_be_behind(last.at)) {
            return self.world().count("answers of a replica that was behind");
        }
        if let Some(last) = before.filter(|last| goes_back(last)) {
            self.world()
                .broken(format!("tag {tag}: was {}, is {state}", last.state));
        }
        self.record.told.push(Told {
            at: Instant::now(),
            state,
            reason,
        });
    }

    async fn follow(&mut self) {
        let user = self.record.user;
        let kills_after = self
            .chance
            .percent(30)
            .then(|| Duration::from_millis(self.chance.within(0..120_000)));
        let born = Instant::now();
        let (fast, longest) = (
            self.chance.percent(50),
            if self.chance.percent(25) {
                60_000
            } else {
                12_000
            },
        );
        let mut looks_after_end = self.chance.within(1..4);
        while Instant::now() < self.until && looks_after_end > 0 {
            let Some(id) = self.record.id else { return };
            if fast {
                self.pause(300, 5000).await
            } else {
                self.pause(2000, longest).await
            }
            if self.chance.percent(8) {
                self.meddle(id).await;
            }
            if self.chance.percent(8) {
                self.send_again(id).await;
                continue;
            }
            if self.record.kill_asked.is_some()
                || kills_after.is_some_and(|after| born.elapsed() >= after)
            {
                self.kill(id).await;
                if self.record.kill_confirmed.is_some() {
                    return self.must_be_gone(id).await;
                }
                if self.chance.percent(20) {
                    // Somebody who asks once, and trusts that it is remembered.
                    return;
                }
                continue;
            }
            let look = self.chance.within(0..10);
            // Whoever hears of an error wants to know why.
            let unexplained = self
                .record
                .told
                .last()
                .is_some_and(|last| last.state == BatchState::Error && last.reason.is_none());
            let path = if look < 6 && !unexplained {
                format!("/batches/{id}/state")
            } else {
                format!("/batches/{id}")
            };
            if look == 9 && !unexplained {
                self.list(id).await;
                continue;
            }
            match self
                .house
                .ask(user, "GET", &path, None, None, Duration::from_secs(60))
                .await
            {
                Ok(heard) if heard.status == 200 => self.note(&heard.body),
                Ok(heard) if heard.status == 503 => self.world().count("polls answered 503"),
                Ok(heard) => {
                    let what = format!(
                        "tag {}: a poll of {id} was answered {} {}",
                        self.record.tag,
                        heard.status,
                        heard.code()
                    );
                    return self.world().broken(what);
                }
                Err(_) => {}
            }
            let Some(last) = self
                .record
                .told
                .last()
                .filter(|last| last.state.is_terminal())
            else {
                continue;
            };
            if last.state == BatchState::Error && last.reason.is_none() {
                continue;
            }
            let never_came = last
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains("submit it again"));
            if never_came && matches!(self.record.kind, Kind::Keyed | Kind::KeyedAndNamed) {
                self.submit_again(id).await;
                continue;
            }
            looks_after_end -= 1;
        }
    }

    async fn list(&mut self, id: i64) {
        let heard = self
            .house
            .ask(
                self.record.user,
                "GET",
                "/batches?size=1000",
                None,
                None,
                Duration::from_secs(60),
            )
            .await;
        let Ok(heard) = heard else { return };
        let sessions = heard
            .body
            .get("sessions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        check_list(self.world(), self.record.user, &sessions);
        match sessions
            .iter()
            .filter(|one| one.get("id").and_then(Value::as_i64) == Some(id))
            .collect::<Vec<_>>()
            .as_slice()
        {
            [one] => self.note(one),
            _ if heard.status != 200 => {}
            others => {
                let what = format!(
                    "tag {}: {id} stands {} times in its owner's list",
                    self.record.tag,
                    others.len()
                );
                self.world().broken(what);
            }
        }
    }

    /// Who sends the same under the same key again gets the same, also while no cluster takes
    /// anything.
    async fn send_again(&mut self, id: i64) {
        let ended_badly = self
            .record
            .told
            .last()
            .is_some_and(|last| last.state == BatchState::Error);
        if !matches!(self.record.kind, Kind::Keyed | Kind::KeyedAndNamed)
            || ended_badly
            || self.record.kill_asked.is_some()
        {
            return;
        }
        let (body, key) = (self.body(), format!("key-{}", self.record.tag));
        let path = format!("{}/batches", self.prefix);
        let heard = loop {
            match self
                .house
                .ask(
                    self.record.user,
                    "POST",
                    &path,
                    Some(&key),
                    Some(&body),
                    Duration::from_secs(120),
                )
                .await
            {
                Ok(heard) => break heard,
                Err(_) if Instant::now() > self.until => return,
                // It may have begun anew, if the key was free: only an answer tells.
                Err(_) => self.pause(500, 5000).await,
            }
        };
        match (heard.status, heard.code()) {
            (201, _) if heard.id() == Some(id) => self.note(&heard.body),
            // Proven absent a moment ago: the key is free, and this is a new submission.
            (503, "draining" | "registry_unavailable") | (502, "submission_unknown") => {}
            (status, code) => {
                if !self.has_freed_its_key(id).await {
                    let what = format!(
                        "tag {}: its key, which stands for {id}, was answered {status} {code} {:?}",
                        self.record.tag,
                        heard.id()
                    );
                    self.world().broken(what);
                }
                if status == 201 {
                    self.record.told.clear();
                    self.created(&heard);
                } else if status == 500 || status == 502 {
                    self.record.unheard = true;
                }
            }
        }
    }

    /// Does as it is told: what never reached its cluster is submitted again, under the same key,
    /// and is a batch of its own.
    async fn submit_again(&mut self, id: i64) {
        self.record.told.clear();
        (self.record.outcome, self.record.id) = (Outcome::Refused, None);
        // That the name is taken by now says nothing about the key.
        let unheard = std::mem::take(&mut self.record.unheard);
        self.submit().await;
        self.record.unheard |= unheard;
        if self.record.id == Some(id) {
            let what = format!(
                "tag {}: the key of {id}, which never reached its cluster, still stands for it",
                self.record.tag
            );
            self.world().broken(what);
        }
    }

    /// A batch that was proven absent lets go of its key; its client may hear of that only later.
    async fn has_freed_its_key(&mut self, id: i64) -> bool {
        for _ in 0..10 {
            let old = self
                .house
                .ask(
                    self.record.user,
                    "GET",
                    &format!("/batches/{id}"),
                    None,
                    None,
                    Duration::from_secs(60),
                )
                .await;
            match old {
                Ok(old) if old.status == 200 => {
                    return old.body.get("state").and_then(Value::as_str) == Some("error");
                }
                _ => self.pause(1000, 5000).await,
            }
        }
        true
    }

    /// Another user looks at it, and tries to kill it: both are 404.
    async fn meddle(&mut self, id: i64) {
        let other = if self.record.user == USERS[0] {
            USERS[1]
        } else {
            USERS[0]
        };
        let method = if self.chance.percent(50) {
            "GET"
        } else {
            "DELETE"
        };
        let heard = self
            .house
            .ask(
                other,
                method,
                &format!("/batches/{id}"),
                None,
                None,
                Duration::from_secs(60),
            )
            .await;
        let said_something =
            |heard: &Heard| heard.status != 404 && heard.code() != "registry_unavailable";
        if heard.as_ref().is_ok_and(said_something) {
            self.world().broken(format!(
                "tag {}: {other} got an answer to {method}: {heard:?}",
                self.record.tag
            ));
        }
    }

    async fn kill(&mut self, id: i64) {
        let first = self.record.kill_asked.is_none();
        let heard = self
            .house
            .ask(
                self.record.user,
                "DELETE",
                &format!("/batches/{id}"),
                None,
                None,
                Duration::from_secs(115),
            )
            .await;
        let heard = match heard {
            Ok(heard) => heard,
            Err(Unheard::Away) => return,
            Err(Unheard::Cut) => {
                // It may have been stored: then it is carried out.
                self.record.kill_asked.get_or_insert(Instant::now());
                return;
            }
        };
        match (heard.status, heard.code()) {
            (200, _) => {
                self.record.kill_asked.get_or_insert(Instant::now());
                self.record.kill_confirmed = Some(Instant::now());
            }
            // Asked before, without hearing of it.
            (404, _) if !first => self.record.kill_confirmed = Some(Instant::now()),
            (502 | 503, "kill_unconfirmed" | "cluster_unavailable") => {
                self.record.kill_asked.get_or_insert(Instant::now());
            }
            (503, _) => {}
            // Only presumed to be the client's.
            (403, "forbidden") => self.world().count("kills of presumed batches refused"),
            (status, code) => {
                let what = format!(
                    "tag {}: a kill of {id} was answered {status} {code}",
                    self.record.tag
                );
                self.world().broken(what);
            }
        }
        if self.record.kill_confirmed.is_some() {
            self.nothing_runs();
        }
    }

    /// A confirmed kill means that nothing of it runs any more.
    fn nothing_runs(&self) {
        let now = Instant::now();
        let running = self
            .world()
            .books()
            .of(self.record.tag)
            .find(|job| job.is_alive(now) && job.forgotten.is_none())
            .map(|job| job.id.clone());
        if let Some(id) = running {
            let what = format!(
                "tag {}: its kill was confirmed, and {id} runs",
                self.record.tag
            );
            // What was given up is forgotten at its owner's wish; that its job cannot be told from
            // others there was said in the reason.
            let given_up = self
                .record
                .told
                .last()
                .is_some_and(|last| last.state == BatchState::Error);
            if given_up
                && self
                    .world()
                    .books()
                    .clusters
                    .values()
                    .any(|cluster| cluster.flavor == livy_dialect::Flavor::Ibm)
            {
                return self.world().count("given up on IBM, deleted, and runs");
            }
            // What a front sent twice has one batch; nothing there names the other job.
            let twins = {
                let books = self.world().books();
                let at_ibm =
                    |cluster: &str| books.clusters[cluster].flavor == livy_dialect::Flavor::Ibm;
                let twins = books.of(self.record.tag).filter(|job| at_ibm(&job.cluster));
                twins.count() > 1
            };
            if twins {
                return self
                    .world()
                    .count("sent twice on IBM, one deleted, one runs");
            }
            self.world().broken(what)
        }
    }

    async fn must_be_gone(&mut self, id: i64) {
        let gone_since = Instant::now();
        loop {
            self.pause(100, 20_000).await;
            let behind = self.house.may_be_behind(gone_since);
            let (user, path) = (self.record.user, format!("/batches/{id}"));
            let patience = Duration::from_secs(60);
            let heard = self.house.ask(user, "GET", &path, None, None, patience);
            let status = match heard.await {
                Ok(heard) if heard.code() == "registry_unavailable" => continue,
                Ok(heard) => heard.status,
                Err(_) => return,
            };
            if status != 404 && (behind || self.house.may_be_behind(gone_since)) {
                self.world().count("answers of a replica that was behind");
                continue;
            }
            if status != 404 {
                let what = format!("{id} was deleted and is shown: {status}");
                self.world()
                    .broken(format!("tag {}: {what}", self.record.tag));
            }
            return;
        }
    }
}

/// What holds for every list: no internal names, no id twice, nothing of anybody else's.
pub(crate) fn check_list(world: &World, user: &str, sessions: &[Value]) {
    let mut ids = std::collections::HashSet::new();
    for one in sessions {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.starts_with("livy-gateway-") {
            world.broken(format!("an internal name is shown: {one}"));
        }
        if !ids.insert(one.get("id").and_then(Value::as_i64)) {
            world.broken(format!("a list shows one id twice: {one}"));
        }
        if user != "root" && one.get("owner").and_then(Value::as_str) != Some(user) {
            world.broken(format!("{user} is shown another's: {one}"));
        }
    }
}
