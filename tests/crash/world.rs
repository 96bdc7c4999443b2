//! Everything that a run has: clusters, proxies, a gateway, and for each flavor a lane with its
//! submissions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::submission::{Outcome, Submission};
use crate::wish::Wish;
use testkit::chance::Chance;
use testkit::fault_proxy::FaultProxy;
use testkit::keeper::{Keeper, Ways, quick};
use testkit::servers::postgres::Postgres;
use testkit::{Clusters, Reply, Request};

pub(crate) struct World {
    pub(crate) wish: Wish,
    pub(crate) began: Instant,
    pub(crate) clusters: Clusters,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) gateways: Vec<Keeper>,
    /// Where several of them have their registry.
    pub(crate) database: Option<Postgres>,
    /// When it was away last, and until when.
    pub(crate) outage: Mutex<Option<(Instant, Option<Instant>)>>,
    /// Whose turn it is to be asked.
    turn: AtomicUsize,
    /// What was done to the gateways, for the story.
    pub(crate) events: Mutex<Vec<String>>,
    /// When the faults were over.
    calm_since: Mutex<Option<Instant>>,
}

/// What there is for each flavor.
pub(crate) struct Lane {
    pub(crate) flavor: &'static str,
    pub(crate) file: &'static str,
    pub(crate) proxy: FaultProxy,
    total: usize,
    drawn: AtomicUsize,
    done: AtomicUsize,
    submissions: Mutex<Vec<Arc<Submission>>>,
}

/// Who shows application ids: with them a batch can be told from another one that has its number
/// and its name.
const WITH_APPLICATIONS: [&str; 2] = ["livy", "knox"];

/// How long it may take until what one gateway was told is known to all.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// How long after a database has come back its gateways may take to find that out.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn start(wish: Wish) -> World {
        let clusters = Clusters::start();
        for (flavor, _) in &wish.flavors {
            // IBM's application API is there in one run and not in the next: nothing may depend on
            // it.
            let applications = Chance::of(wish.seed, "applications").percent(50);
            let options = json!({"requests": false, "app_ids": WITH_APPLICATIONS.contains(flavor), "applications": applications});
            clusters.options(flavor, &options);
        }
        let lane = |(flavor, file): &(&'static str, &'static str)| Lane {
            flavor,
            file,
            proxy: FaultProxy::start(clusters.address),
            total: wish.submissions,
            drawn: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            submissions: Mutex::default(),
        };
        let lanes: Vec<Lane> = wish.flavors.iter().map(lane).collect();
        let behind: Vec<(&str, &str, &FaultProxy)> = lanes
            .iter()
            .map(|lane| (lane.flavor, lane.flavor, &lane.proxy))
            .collect();
        let keys = quick("freshness: 100ms, watch: 1s");
        let database = (wish.replicas > 1).then(Postgres::start);
        let gateways = match &database {
            None => vec![Keeper::start(&behind, &keys)],
            Some(database) => {
                let registry = format!("registry: {{postgres: {{url: \"{}\"}}}}", database.url());
                let ways = Ways {
                    registry: &registry,
                    server: "",
                };
                let start = |_| Keeper::start_as(ways, &behind, &keys);
                (0..wish.replicas).map(start).collect()
            }
        };
        World {
            wish,
            began: Instant::now(),
            clusters,
            lanes,
            gateways,
            database,
            outage: Mutex::default(),
            turn: AtomicUsize::new(0),
            events: Mutex::default(),
            calm_since: Mutex::default(),
        }
    }

    /// Tells whether somebody who asks again and again still does: while there are faults, and for
    /// a while after.
    pub(crate) fn goes_on(&self, persistence: Duration) -> bool {
        self.calm_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none_or(|since| since.elapsed() < persistence)
    }

    /// Notes that there are no more faults.
    pub(crate) fn is_calm(&self) {
        *self
            .calm_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn note(&self, event: &str) {
        let line = format!("{} {event}", crate::submission::clock(self.began.elapsed()));
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// Asks the next gateway in turn that listens, as whoever balances load before several does.
    pub(crate) fn ask(&self, request: &Request<'_>, limit: Duration) -> Option<Reply> {
        let count = self.gateways.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (first..first + count).map(|at| &self.gateways[at % count]);
        let one = match count {
            1 => in_turn.next(),
            _ => in_turn.find(|one| one.listens()),
        };
        one?.ask(request, limit)
    }

    /// Returns from when on what was told to somebody is known to whoever is asked at this time:
    /// what one gateway learnt, the others are told within a second, or a little more where all of
    /// this runs on one machine.
    pub(crate) fn known_to_all(&self, asked: Instant) -> Instant {
        match self.gateways.len() {
            1 => asked,
            _ => asked.checked_sub(TOLD_WITHIN).unwrap_or(asked),
        }
    }

    /// Tells whether the answer to a read may be that the registry is away.
    pub(crate) fn may_be_away(&self, reply: &Reply, asked: Instant) -> bool {
        let outage = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let away = outage
            .is_some_and(|(_, until)| until.is_none_or(|until| until + COMES_BACK_WITHIN > asked));
        away && reply.status == 503 && reply.json()["code"] == "registry_unavailable"
    }

    /// Reads a list as a whole, page by page; or the status that was given instead of a page. What
    /// is deleted meanwhile lets everything behind it move up, so each page begins a little before
    /// the end of the one before.
    pub(crate) fn list(
        &self,
        path: &str,
        login: (&str, &str),
        patience: Duration,
    ) -> Option<Result<Vec<Value>, u16>> {
        const PAGE: usize = 1000;
        const OVERLAP: usize = 100;
        let (mut all, mut from): (Vec<Value>, usize) = (Vec::new(), 0);
        loop {
            let page = format!("{path}?from={from}&size={PAGE}");
            let asked = Instant::now();
            let reply = self.ask(&Request::get(&page).basic(login), patience)?;
            if self.may_be_away(&reply, asked) {
                return None;
            }
            if reply.status != 200 {
                return Some(Err(reply.status));
            }
            let sessions = reply.json()["sessions"].as_array().cloned();
            let sessions = sessions.unwrap_or_default();
            let is_last = sessions.len() < PAGE;
            let (before, end) = (all.len().saturating_sub(OVERLAP), all.len());
            for session in sessions {
                let again = all[before..end]
                    .iter()
                    .any(|one| one["id"] == session["id"]);
                if !again {
                    all.push(session);
                }
            }
            if is_last {
                return Some(Ok(all));
            }
            from += PAGE - OVERLAP;
        }
    }

    /// Returns how much of the time is over, in thousandths.
    pub(crate) fn time_over(&self) -> u128 {
        (self.began.elapsed().as_millis() * 1000)
            .checked_div(self.wish.time.as_millis())
            .unwrap_or(1000)
    }
}

impl Lane {
    /// Draws the next submission, when its time has come.
    pub(crate) fn next(&self, world: &World) -> Option<Arc<Submission>> {
        let number = self.drawn.fetch_add(1, Ordering::SeqCst);
        if number >= self.total {
            return None;
        }
        let share = u32::try_from(number).unwrap_or(u32::MAX);
        let due = world.wish.time * share / u32::try_from(self.total).unwrap_or(u32::MAX);
        // The pace of the load.
        std::thread::sleep(due.saturating_sub(world.began.elapsed()));
        let submission = Arc::new(Submission::draw(
            world.wish.seed,
            self.flavor,
            self.file,
            number,
        ));
        self.all().push(submission.clone());
        Some(submission)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Submission>>> {
        self.submissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_done(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.total
    }

    /// Returns the number of submissions, drawn or not.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn submissions(&self) -> Vec<Arc<Submission>> {
        self.all().clone()
    }

    /// Returns those that their clients know to exist.
    pub(crate) fn created(&self) -> Vec<Arc<Submission>> {
        self.all()
            .iter()
            .filter(|submission| submission.client().outcome == Outcome::Created)
            .cloned()
            .collect()
    }
}
