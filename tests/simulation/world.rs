//! The world outside the gateway: clusters with their jobs, what happens to them, and books that
//! forget nothing.
//!
//! Owns what is true. All chance here hangs on the seed and on what a request is about, never on
//! the order in which requests come, so that a change of the gateway moves as little as possible of
//! everything else. Leaves what a request meets on its way to `wire`, and how a flavor answers to
//! `cluster`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livy_dialect::{BatchState, Flavor};
use tokio::time::Instant;

use testkit::chance::Chance;

/// The number that a client puts into its submission's first argument: by it the world knows whose
/// job it is.
pub(crate) type Tag = u32;

/// How jobs end that do not end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// By a DELETE.
    Killed,
    /// With its server, which forgot it.
    Vanished,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) cluster: String,
    pub(crate) id: String,
    pub(crate) tag: Option<Tag>,
    pub(crate) name: Option<String>,
    pub(crate) user: Option<String>,
    /// The marker or id that the gateway sent along.
    pub(crate) key: Option<String>,
    pub(crate) born: Instant,
    pub(crate) starts: Duration,
    pub(crate) runs: Duration,
    pub(crate) fails: bool,
    pub(crate) stopped: Option<(Instant, Stop)>,
    /// When a DELETE reached it.
    pub(crate) deleted: Vec<Instant>,
    /// What is left of a refusal, `starting` for ever; it never runs.
    pub(crate) ghost: bool,
    /// What is left of a refusal, as Kyuubi leaves it: an end without a beginning.
    pub(crate) stillborn: bool,
    /// When its cluster stopped knowing it.
    pub(crate) forgotten: Option<Instant>,
    /// Whether that was because the cluster restarted and did not recover.
    pub(crate) lost_in_restart: bool,
    /// From when to when its cluster says of it, and of nothing else, that there is no such batch.
    pub(crate) hidden: Vec<(Instant, Instant)>,
    pub(crate) app_id: String,
}

impl Job {
    pub(crate) fn natural_end(&self) -> Instant {
        self.born + self.starts + self.runs
    }

    /// Returns when it ended, or will.
    pub(crate) fn end(&self) -> Instant {
        self.stopped
            .map_or(self.natural_end(), |(at, _)| at.min(self.natural_end()))
    }

    pub(crate) fn state(&self, now: Instant) -> BatchState {
        if self.ghost {
            return BatchState::Starting;
        }
        if now < self.end() {
            return if now < self.born + self.starts {
                BatchState::Starting
            } else {
                BatchState::Running
            };
        }
        self.last_state()
    }

    /// Returns the state that it ends in.
    pub(crate) fn last_state(&self) -> BatchState {
        match self.stopped {
            Some((at, Stop::Killed)) if at < self.natural_end() => BatchState::Killed,
            Some((at, Stop::Vanished)) if at < self.natural_end() => BatchState::Dead,
            _ if self.fails => BatchState::Dead,
            _ => BatchState::Success,
        }
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        !self.ghost && now < self.end()
    }

    /// Tells whether it did, does or will do its work: it was neither killed nor lost with its
    /// server.
    pub(crate) fn counts(&self) -> bool {
        !self.ghost
            && !self.stillborn
            && self.stopped.is_none_or(|(at, _)| at >= self.natural_end())
    }

    pub(crate) fn shown_app_id(&self, now: Instant) -> Option<&str> {
        let has_one = !self.ghost && !self.stillborn;
        (has_one && now >= self.born + self.starts).then_some(self.app_id.as_str())
    }

    /// Tells whether its cluster does not show it at the moment, though it knows it.
    pub(crate) fn is_hidden(&self, now: Instant) -> bool {
        self.hidden
            .iter()
            .any(|(from, to)| (*from..*to).contains(&now))
    }

    fn stop(&mut self, now: Instant, how: Stop) {
        if self.stopped.is_none() && !self.ghost {
            self.stopped = Some((now, how));
        }
    }
}

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) flavor: Flavor,
    /// What stands before `/batches`.
    pub(crate) base: String,
    /// The next id, where it counts.
    pub(crate) next: i64,
    /// Nobody listens until then.
    pub(crate) down_until: Instant,
    /// It knows none of its batches until then: it recovers.
    pub(crate) blind_until: Instant,
    /// Counts restarts: what was on its way then is lost.
    pub(crate) epoch: u32,
    /// For how long it shows what has ended.
    pub(crate) retain: Duration,
    /// Whether the API of applications is there (IBM).
    pub(crate) applications: bool,
    /// Whether it runs jobs as its own account, and shows that, whoever they were submitted for.
    pub(crate) own_account: bool,
    /// Whether a front often answers a submission first and passes it on later.
    pub(crate) late_fronts: bool,
    /// From when on which weather.
    pub(crate) weather: Vec<(Instant, Weather)>,
}

/// How much can be trusted on the way to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    Windy,
    Storm,
    /// Nothing gets through.
    Dark,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) jobs: Vec<Job>,
    /// Names and keys under which submissions were sent.
    pub(crate) keys: HashMap<String, Tag>,
    asked: HashMap<String, u32>,
    requests: u64,
    /// Ids that anybody was shown.
    pub(crate) shown: BTreeSet<i64>,
    /// Broken promises.
    pub(crate) broken: Vec<String>,
    /// What else was seen, counted.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// What becomes of the story of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    Untold,
    /// One number is made of it.
    Digested,
    /// It is written, and digested.
    Told,
}

/// The world, shared by all who live in it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) began: Instant,
    story: Story,
    /// Whether known weaknesses count as broken promises.
    strict: bool,
    books: Arc<Mutex<Books>>,
    /// What the lines of the story make together.
    pub(crate) digest: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(seed: u64, story: Story) -> World {
        let books = Books {
            clusters: BTreeMap::new(),
            jobs: Vec::new(),
            keys: HashMap::new(),
            asked: HashMap::new(),
            requests: 0,
            shown: BTreeSet::new(),
            broken: Vec::new(),
            counts: BTreeMap::new(),
        };
        World {
            seed,
            began: Instant::now(),
            story,
            strict: std::env::var_os("STRICT").is_some(),
            books: Arc::new(Mutex::new(books)),
            digest: Arc::default(),
        }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the source of somebody's chance.
    pub(crate) fn chance(&self, whose: &str) -> Chance {
        let mut chance = Chance::of(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), whose);
        // Neighbouring seeds and names must not draw alike.
        let mixed = chance.draw();
        Chance::new(mixed)
    }

    /// Returns the source of the chance of the next request of a kind about something.
    pub(crate) fn next_chance(&self, what: &str) -> Chance {
        let count = {
            let mut books = self.books();
            let count = books.asked.entry(what.to_owned()).or_default();
            *count += 1;
            *count
        };
        self.chance(&format!("{what}/{count}"))
    }

    pub(crate) fn next_request_id(&self) -> String {
        let mut books = self.books();
        books.requests += 1;
        format!("simulated-{}", books.requests)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Writes a line of the run's story, if anybody wants to read it.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.story != Story::Untold {
            let line = line();
            self.digest(&line);
            self.say(|| line);
        }
    }

    /// Writes a line of which only the beginning is the same whenever the seed is run: an answer
    /// may name real times.
    pub(crate) fn tell_answer(&self, same: &str, rest: impl FnOnce() -> String) {
        if self.story != Story::Untold {
            self.digest(same);
            self.say(|| format!("{same} {}", rest()));
        }
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if self.story == Story::Told {
            eprintln!("{:9.3} {}", self.seconds(), line());
        }
    }

    fn digest(&self, line: &str) {
        let mut hasher = DefaultHasher::new();
        let before = self.digest.load(Ordering::Relaxed);
        (before, self.began.elapsed(), line).hash(&mut hasher);
        self.digest.store(hasher.finish(), Ordering::Relaxed);
    }

    /// Notes a broken promise.
    pub(crate) fn broken(&self, what: String) {
        self.tell(|| format!("BROKEN {what}"));
        self.books()
            .broken
            .push(format!("at {:.3} s: {what}", self.seconds()));
    }

    /// Notes a weakness that is known and stands in `judge`; with `STRICT=1` it counts as a broken
    /// promise.
    pub(crate) fn known(&self, weakness: &'static str, what: String) {
        if self.strict {
            return self.broken(format!("{what} [{weakness}]"));
        }
        self.tell(|| format!("KNOWN {what} [{weakness}]"));
        self.count(weakness);
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.books().counts.entry(what).or_default() += 1;
    }

    pub(crate) fn weather(&self, cluster: &str) -> Weather {
        let now = Instant::now();
        let books = self.books();
        let weather = books
            .clusters
            .get(cluster)
            .and_then(|cluster| cluster.weather.iter().rev().find(|(from, _)| *from <= now));
        weather.map_or(Weather::Fine, |(_, weather)| *weather)
    }

    /// Restarts a cluster. One that does not recover forgets its jobs, which end with it, and
    /// counts from 0.
    pub(crate) fn restart(&self, name: &str, recovers: bool, down: Duration, blind: Duration) {
        self.tell(|| {
            format!("{name} restarts, recovers: {recovers}, down {down:?}, blind {blind:?}")
        });
        let now = Instant::now();
        let mut books = self.books();
        let Books { clusters, jobs, .. } = &mut *books;
        let Some(cluster) = clusters.get_mut(name) else {
            return;
        };
        cluster.epoch += 1;
        cluster.down_until = now + down;
        cluster.blind_until = now + down + blind;
        if recovers {
            // A Livy that recovers forgets its ghosts: they were never stored.
            jobs.iter_mut()
                .filter(|job| job.cluster == name && job.ghost)
                .for_each(|job| job.forgotten = Some(now));
            return;
        }
        cluster.next = 0;
        for job in jobs
            .iter_mut()
            .filter(|job| job.cluster == name && job.forgotten.is_none())
        {
            job.stop(now, Stop::Vanished);
            job.forgotten = Some(now);
            job.lost_in_restart = true;
        }
    }
}

impl Books {
    /// Forgets what ended long ago.
    pub(crate) fn collect(&mut self, cluster: &str, now: Instant) {
        let Some(retain) = self.clusters.get(cluster).map(|cluster| cluster.retain) else {
            return;
        };
        for job in self
            .jobs
            .iter_mut()
            .filter(|job| job.cluster == cluster && job.forgotten.is_none() && !job.ghost)
        {
            if job.end() + retain <= now {
                job.forgotten = Some(job.end() + retain);
            }
        }
    }

    /// Returns the places of the jobs that a cluster knows.
    pub(crate) fn known(&self, cluster: &str) -> Vec<usize> {
        (0..self.jobs.len())
            .filter(|at| self.jobs[*at].cluster == cluster && self.jobs[*at].forgotten.is_none())
            .collect()
    }

    /// Carries a DELETE out.
    pub(crate) fn delete(&mut self, at: usize, now: Instant) {
        let job = &mut self.jobs[at];
        job.deleted.push(now);
        if job.is_alive(now) {
            job.stop(now, Stop::Killed);
        }
    }

    /// Returns the jobs of a submission, ghosts aside.
    pub(crate) fn of(&self, tag: Tag) -> impl Iterator<Item = &Job> {
        self.jobs
            .iter()
            .filter(move |job| job.tag == Some(tag) && !job.ghost)
    }
}
