//! Simulated jobs: what happens to them is a function of the time since they began.
//!
//! A job runs for as many seconds as its first argument says (2 if it says nothing), then ends well, or badly if its second argument is
//! `fail` or its file is called something with `fail` or `bad`. It starts for [`STARTING`], and prints a line every [`LINE_EVERY`].

use std::time::{Duration, Instant};

use livy_dialect::{BatchState, Flavor};
use serde_json::{Map, Value};

/// How long a job is starting.
const STARTING: Duration = Duration::from_millis(300);
/// How long a job runs that says nothing about it.
const RUNNING: Duration = Duration::from_secs(2);
/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_millis(100);

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: u32,
    /// Kyuubi's id.
    pub(super) uuid: String,
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) python: bool,
    /// The whole submission, which Kyuubi shows in an answer that must never be passed on.
    pub(super) submission: Value,
    /// Refused, and yet listed: Livy keeps these as `starting` for ever.
    pub(super) ghost: bool,
    /// Where the last reader of the log stopped (Kyuubi: shared by all readers).
    pub(super) cursor: usize,
    /// When it began, Unix milliseconds.
    pub(super) created_ms: i64,
    began: Instant,
    runs_for: Duration,
    fails: bool,
    killed: Option<Instant>,
}

impl Job {
    fn age(&self) -> Duration {
        self.killed.map_or_else(|| self.began.elapsed(), |killed| killed - self.began)
    }

    /// Returns the state in canonical words.
    pub(super) fn state(&self) -> BatchState {
        let ended = self.age() >= STARTING + self.runs_for;
        match (ended, self.killed) {
            _ if self.ghost => BatchState::Starting,
            (true, _) if self.fails => BatchState::Dead,
            (true, _) => BatchState::Success,
            (false, Some(_)) => BatchState::Killed,
            (false, None) if self.age() < STARTING => BatchState::Starting,
            (false, None) => BatchState::Running,
        }
    }

    /// Returns the application id, once it runs.
    pub(super) fn app_id(&self) -> Option<String> {
        let started = self.state() != BatchState::Starting;
        started.then(|| format!("application_{}_{:04}", self.created_ms, self.id))
    }

    /// Returns when it ended, Unix milliseconds; 0 if it has not.
    pub(super) fn ended_ms(&self) -> i64 {
        if !self.state().is_terminal() {
            return 0;
        }
        let lasted = self.age().min(STARTING + self.runs_for);
        self.created_ms + i64::try_from(lasted.as_millis()).unwrap_or(0)
    }

    pub(super) fn kill(&mut self) {
        self.killed.get_or_insert_with(Instant::now);
    }

    /// Returns the lines printed so far, without any headers.
    pub(super) fn lines(&self) -> Vec<String> {
        let printed = self.age().min(STARTING + self.runs_for).as_millis() / LINE_EVERY.as_millis();
        let mut lines = vec!["simulated job: submitted".to_owned()];
        lines.extend((1..=printed).map(|line| format!("simulated job: tick {line}")));
        match self.state() {
            BatchState::Success => lines.push("simulated job: done".into()),
            BatchState::Dead => lines.push("simulated job: exit code 1".into()),
            _ => {}
        }
        lines
    }

    /// Returns the log as Livy shows it, with its section headers. A ghost has none.
    pub(super) fn livy_log(&self) -> Vec<String> {
        if self.ghost {
            return Vec::new();
        }
        let mut log = vec!["stdout: ".to_owned()];
        log.extend(self.lines());
        log.push("\nstderr: ".to_owned());
        log
    }
}

/// All jobs of a cluster.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) list: Vec<Job>,
    next: u32,
}

impl Jobs {
    /// Livy counts from 0; IBM's samples begin at 1.
    pub(super) fn new(flavor: Flavor) -> Self {
        Jobs { list: Vec::new(), next: u32::from(flavor == Flavor::Ibm) }
    }

    /// Adds a job for a submission in Livy's or Kyuubi's words.
    pub(super) fn add(&mut self, submission: &Map<String, Value>, ghost: bool) -> Job {
        let text = |key: &str| submission.get(key).and_then(Value::as_str).map(str::to_owned);
        let file = text("file").or_else(|| text("resource")).unwrap_or_default();
        let argument = |at: usize| submission.get("args").and_then(|args| args.get(at)).and_then(Value::as_str);
        let runs_for = argument(0).and_then(|text| text.parse::<f64>().ok()).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let job = Job {
            id: self.skip_id(),
            uuid: uuid::Uuid::new_v4().to_string(),
            name: text("name"),
            user: None,
            python: file.ends_with(".py"),
            submission: Value::Object(submission.clone()),
            ghost,
            cursor: 0,
            created_ms: i64::try_from(since.as_millis()).unwrap_or(0),
            began: Instant::now(),
            runs_for: runs_for.unwrap_or(RUNNING),
            fails: file.contains("fail") || file.contains("bad") || argument(1) == Some("fail"),
            killed: None,
        };
        self.list.push(job.clone());
        job
    }

    /// Takes an id that no job gets.
    pub(super) fn skip_id(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Finds a job by id or by name.
    pub(super) fn find(&mut self, key: &str) -> Option<&mut Job> {
        self.list.iter_mut().find(|job| job.id.to_string() == key || job.uuid == key || job.name.as_deref() == Some(key))
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.list.retain(|job| job.id != id);
    }
}
