//! Simulated jobs: what happens to them is a function of the time since they began.
//!
//! A job runs for as many seconds as its first argument says (2 if it says nothing), then ends
//! well, or badly if its second argument is `fail` or its file is called something with `fail` or
//! `bad`. It starts for [`STARTING`], and prints a line every [`LINE_EVERY`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use livy_dialect::{BatchState, Flavor};
use serde_json::{Map, Value};

use super::asked::Asked;
use super::knobs::Restart;

/// How long a job is starting.
const STARTING: Duration = Duration::from_millis(300);
/// How long a job runs that says nothing about it.
const RUNNING: Duration = Duration::from_secs(2);
/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_millis(100);

/// Jobs are numbered through the whole process, as if one YARN ran under all clusters: no restart
/// gives an application id twice.
static JOBS: AtomicU32 = AtomicU32::new(0);

/// Who ended a job before its time.
#[derive(Clone, Debug)]
pub(super) struct Kill {
    at: Instant,
    /// The request that did it, as far as it said its id; `restart` for a cluster that went down.
    pub(super) by: Option<String>,
}

/// What a cluster that recovers says about a job that it had before.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Until then nothing: look-ups and lists don't have it.
    hidden_until: Instant,
    /// And until then that it is recovering.
    recovering_until: Instant,
}

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: u32,
    /// Kyuubi's id, and the one of IBM's application API.
    pub(super) uuid: String,
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) file: String,
    /// The whole submission, which Kyuubi shows in an answer that must never be passed on.
    pub(super) submission: Value,
    /// Refused, and yet listed: Livy keeps these as `starting` for ever.
    pub(super) ghost: bool,
    /// Where the last reader of the log stopped (Kyuubi: shared by all readers).
    pub(super) cursor: usize,
    /// When it began, Unix milliseconds.
    pub(super) created_ms: i64,
    /// How often its cluster had been restarted before.
    pub(super) generation: u32,
    /// `X-Request-Id` of the request that made it.
    pub(super) request_id: Option<String>,
    /// `X-Request-Id` of each `DELETE` that was about it.
    pub(super) deletes: Vec<Option<String>>,
    pub(super) killed: Option<Kill>,
    /// Its number among all jobs of this process.
    sequence: u32,
    application: String,
    began: Instant,
    runs_for: Duration,
    fails: bool,
    recovery: Option<Recovery>,
}

/// A submission that a cluster takes.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    /// In Livy's or Kyuubi's words.
    pub(super) submission: &'a Map<String, Value>,
    /// Kyuubi: the id that the client chose.
    pub(super) uuid: Option<String>,
    /// Kyuubi: whom it runs as.
    pub(super) user: Option<String>,
    /// Refused after it was registered.
    pub(super) ghost: bool,
    /// `X-Request-Id`.
    pub(super) request_id: Option<String>,
}

impl<'a> Taken<'a> {
    pub(super) fn of(submission: &'a Map<String, Value>, asked: &Asked) -> Self {
        Taken {
            submission,
            uuid: None,
            user: None,
            ghost: false,
            request_id: asked.request_id(),
        }
    }
}

impl Job {
    fn age(&self) -> Duration {
        self.killed
            .as_ref()
            .map_or_else(|| self.began.elapsed(), |kill| kill.at - self.began)
    }

    /// Returns the state in canonical words.
    pub(super) fn state(&self) -> BatchState {
        let ended = self.age() >= STARTING + self.runs_for;
        match (ended, &self.killed) {
            _ if self.ghost => BatchState::Starting,
            (true, _) if self.fails => BatchState::Dead,
            (true, _) => BatchState::Success,
            (false, Some(_)) => BatchState::Killed,
            (false, None) if self.age() < STARTING => BatchState::Starting,
            (false, None) => BatchState::Running,
        }
    }

    /// Tells whether its cluster does not find it yet after a restart.
    fn is_hidden(&self) -> bool {
        self.recovery
            .is_some_and(|recovery| Instant::now() < recovery.hidden_until)
    }

    /// Tells whether its cluster is still looking for it after a restart.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery
            .is_some_and(|recovery| Instant::now() < recovery.recovering_until)
    }

    /// Returns when it began to run, Unix milliseconds, if it did.
    pub(super) fn started_ms(&self) -> Option<i64> {
        let started = self.age() >= STARTING && !self.ghost;
        started.then(|| self.created_ms + milliseconds(STARTING))
    }

    /// Returns the application id, once it runs.
    pub(super) fn app_id(&self) -> Option<&str> {
        self.started_ms().map(|_| self.application.as_str())
    }

    /// Returns when it ended, Unix milliseconds; 0 if it has not.
    pub(super) fn ended_ms(&self) -> i64 {
        if !self.state().is_terminal() {
            return 0;
        }
        self.created_ms + milliseconds(self.age().min(STARTING + self.runs_for))
    }

    /// Ends it if it has not ended.
    pub(super) fn kill(&mut self, by: Option<String>) {
        if !self.ghost && !self.state().is_terminal() {
            self.killed = Some(Kill {
                at: Instant::now(),
                by,
            });
        }
    }

    /// The same, for a request that asks for it.
    pub(super) fn delete(&mut self, asked: &Asked) {
        self.deletes.push(asked.request_id());
        self.kill(asked.request_id());
    }

    /// Returns the lines printed so far, without any headers.
    pub(super) fn lines(&self) -> Vec<String> {
        let printed = self.age().min(STARTING + self.runs_for).as_millis() / LINE_EVERY.as_millis();
        // The arguments tell a reader whose log this is.
        let arguments = self
            .submission
            .get("args")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let mut lines = vec![
            ["simulated job: submitted"]
                .into_iter()
                .chain(arguments)
                .collect::<Vec<_>>()
                .join(" "),
        ];
        lines.extend((1..=printed).map(|line| format!("simulated job: tick {line}")));
        match self.state() {
            BatchState::Success => lines.push("simulated job: done".into()),
            BatchState::Dead => lines.push("simulated job: exit code 1".into()),
            _ => {}
        }
        lines
    }

    /// Returns the log as Livy shows it, with its section headers. A ghost has none; after a
    /// recovery only the headers are left, for the process that printed is no child of the new
    /// Livy's.
    pub(super) fn livy_log(&self) -> Vec<String> {
        if self.ghost {
            return Vec::new();
        }
        let mut log = vec!["stdout: ".to_owned()];
        if self.recovery.is_none() {
            log.extend(self.lines());
        }
        log.push("\nstderr: ".to_owned());
        log
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(0)
}

/// Livy counts from 0; IBM's samples begin at 1.
fn first_id(flavor: Flavor) -> u32 {
    u32::from(flavor == Flavor::Ibm)
}

/// Makes an application id as YARN does, or as IBM's samples have it: `app-20201213175030-0000`.
fn application_id(flavor: Flavor, created_ms: i64, sequence: u32) -> String {
    if flavor == Flavor::Ibm {
        let created = jiff::Timestamp::from_millisecond(created_ms).unwrap_or_default();
        return format!("app-{}-{sequence:04}", created.strftime("%Y%m%d%H%M%S"));
    }
    format!("application_{created_ms}_{sequence:04}")
}

/// All jobs of a cluster, and whether it is there.
#[derive(Debug)]
pub(super) struct Jobs {
    list: Vec<Job>,
    /// What the cluster no longer knows: for the books.
    forgotten: Vec<Job>,
    flavor: Flavor,
    next: u32,
    generation: u32,
    away_until: Option<Instant>,
}

impl Jobs {
    pub(super) fn new(flavor: Flavor) -> Self {
        Jobs {
            list: Vec::new(),
            forgotten: Vec::new(),
            flavor,
            next: first_id(flavor),
            generation: 0,
            away_until: None,
        }
    }

    /// Adds a job.
    pub(super) fn add(&mut self, taken: Taken<'_>) -> Job {
        let submission = taken.submission;
        let text = |key: &str| {
            submission
                .get(key)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let file = text("file")
            .or_else(|| text("resource"))
            .unwrap_or_default();
        let argument = |at: usize| {
            submission
                .get("args")
                .and_then(|args| args.get(at))
                .and_then(Value::as_str)
        };
        let runs_for = argument(0)
            .and_then(|text| text.parse::<f64>().ok())
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let (created_ms, sequence) = (
            milliseconds(since),
            JOBS.fetch_add(1, Ordering::Relaxed) + 1,
        );
        let job = Job {
            id: self.skip_id(),
            uuid: taken
                .uuid
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            name: text("name"),
            user: taken.user,
            fails: file.contains("fail") || file.contains("bad") || argument(1) == Some("fail"),
            file,
            submission: Value::Object(submission.clone()),
            ghost: taken.ghost,
            cursor: 0,
            created_ms,
            generation: self.generation,
            request_id: taken.request_id,
            deletes: Vec::new(),
            killed: None,
            sequence,
            application: application_id(self.flavor, created_ms, sequence),
            began: Instant::now(),
            runs_for: runs_for.unwrap_or(RUNNING),
            recovery: None,
        };
        self.list.push(job.clone());
        job
    }

    /// Takes an id that no job gets.
    pub(super) fn skip_id(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Returns what the cluster shows, in the order of creation.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Job> {
        self.list.iter().filter(|job| !job.is_hidden())
    }

    fn find(&mut self, fits: impl Fn(&Job) -> bool) -> Option<&mut Job> {
        self.list
            .iter_mut()
            .find(|job| !job.is_hidden() && fits(job))
    }

    /// Finds a job by its number.
    pub(super) fn by_id(&mut self, id: u32) -> Option<&mut Job> {
        self.find(|job| job.id == id)
    }

    /// Finds a job by its number, as a path says it.
    pub(super) fn by_digits(&mut self, digits: &str) -> Option<&mut Job> {
        digits.parse().ok().and_then(|id| self.by_id(id))
    }

    /// Finds a job by its name.
    pub(super) fn by_name(&mut self, name: &str) -> Option<&mut Job> {
        self.find(|job| job.name.as_deref() == Some(name))
    }

    /// Finds a job by its UUID.
    pub(super) fn by_uuid(&mut self, uuid: &str) -> Option<&mut Job> {
        self.find(|job| job.uuid == uuid)
    }

    /// Finds the job that a name or a chosen id is taken by. One that is still being recovered
    /// holds its own as well: it is in the store from which it will come.
    pub(super) fn holder(&self, fits: impl Fn(&Job) -> bool) -> Option<&Job> {
        self.list.iter().find(|job| fits(job))
    }

    /// Forgets jobs; the books keep them.
    pub(super) fn forget(&mut self, forgets: impl Fn(&Job) -> bool) {
        let (forgotten, kept) = std::mem::take(&mut self.list)
            .into_iter()
            .partition(forgets);
        self.list = kept;
        self.forgotten.extend::<Vec<Job>>(forgotten);
    }

    /// Goes down and comes back. Jobs go on if the cluster recovers; else they are killed and
    /// forgotten, and numbers begin anew.
    pub(super) fn restart(&mut self, how: &Restart) {
        self.generation += 1;
        let back = Instant::now() + how.away();
        self.away_until = Some(back);
        if how.recovers() {
            let hidden_until = back + how.unknown();
            let recovery = Recovery {
                hidden_until,
                recovering_until: hidden_until + how.recovering(),
            };
            self.list
                .iter_mut()
                .for_each(|job| job.recovery = Some(recovery));
            return;
        }
        self.list
            .iter_mut()
            .for_each(|job| job.kill(Some("restart".to_owned())));
        self.forget(|_| true);
        self.next = first_id(self.flavor);
    }

    /// Returns how often the cluster was restarted; `None` while it is away.
    pub(super) fn generation(&self) -> Option<u32> {
        let away = self.away_until.is_some_and(|until| Instant::now() < until);
        (!away).then_some(self.generation)
    }

    /// Returns every job that ever was, in the order of creation, each with whether the cluster
    /// still has it.
    pub(super) fn all(&self) -> Vec<(&Job, bool)> {
        let forgotten = self.forgotten.iter().map(|job| (job, false));
        let mut all: Vec<(&Job, bool)> = forgotten
            .chain(self.list.iter().map(|job| (job, true)))
            .collect();
        all.sort_by_key(|(job, _)| job.sequence);
        all
    }
}
