//! What a database of several gateways has beside its rows, as `registry::postgres` keeps it there:
//! leases by one clock, the process that looks after each open submission, and notes of what
//! changed, which arrive a moment later, or not at all where the connection broke. The rows
//! themselves are in the one `SqliteStore`, which checks versions in the words that PostgreSQL does.
//!
//! Each method is one transaction: nothing in it waits for anybody else. That a gateway is cut off
//! or stands still is `Disk`'s and `Life`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livy_dialect::Observed;
use livy_gateway::clock::Moment;
use livy_gateway::registry::{
    Adoption, Change, GatewayId, LEASE, NewRow, Phase, RangeOf, Recorded, RegistryError, Row,
    Saved, SqliteStore, Store as _, Visible,
};
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::world::World;

/// How far the uptime may go on between two notes of it, as in PostgreSQL.
const LONGEST_BEAT: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, RegistryError>;

#[derive(Debug)]
pub(crate) struct Shared {
    world: World,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    /// Who has what, until when.
    leases: BTreeMap<String, (String, Instant)>,
    /// Who looks after which submission.
    senders: BTreeMap<GatewayId, String>,
    /// What is on its way to whoever listens.
    listeners: BTreeMap<String, Line>,
    /// How long gateways have been running, as was noted when.
    uptime: (Duration, Instant),
}

/// A connection that notes come by, one after the other.
#[derive(Clone, Debug, Default)]
struct Line {
    notes: VecDeque<(Instant, Change)>,
    more: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(world: &World) -> Shared {
        Shared {
            world: world.clone(),
            inside: Mutex::new(Inside {
                leases: BTreeMap::new(),
                senders: BTreeMap::new(),
                listeners: BTreeMap::new(),
                uptime: (Duration::ZERO, Instant::now()),
            }),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn is_alive(&self, process: &str) -> bool {
        let lease = self.leases.get(&format!("process/{process}"));
        lease.is_some_and(|(_, until)| *until > Instant::now())
    }

    /// Tells whether a process that is alive, and not this one, looks after a submission.
    fn is_elsewhere(&self, id: GatewayId, process: &str) -> bool {
        let sender = self.senders.get(&id);
        sender.is_some_and(|sender| sender != process && self.is_alive(sender))
    }

    fn hold(&mut self, duty: &str, process: &str) -> bool {
        let now = Instant::now();
        let lease = self.leases.get(duty);
        let free = lease.is_none_or(|(holder, until)| holder == process || *until < now);
        if free {
            let lease = (process.to_owned(), now + LEASE);
            self.leases.insert(duty.to_owned(), lease);
        }
        free
    }
}

/// One process at the database.
#[derive(Debug)]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    /// Its name among all.
    pub(crate) process: String,
    hears: AtomicBool,
    /// What it has to say to the others.
    unsaid: Mutex<BTreeSet<GatewayId>>,
    pub(crate) more_to_say: Notify,
}

impl Seat {
    pub(crate) fn new(shared: &Arc<Shared>, process: String) -> Seat {
        Seat {
            shared: shared.clone(),
            process,
            hears: AtomicBool::new(false),
            unsaid: Mutex::default(),
            more_to_say: Notify::new(),
        }
    }

    /// Counts the uptime of all processes on, and keeps this one alive.
    pub(crate) fn beat(&self) -> i64 {
        let mut inside = self.shared.inside();
        inside.hold(&format!("process/{}", self.process), &self.process);
        let (passed, noted) = inside.uptime;
        let passed = passed + noted.elapsed().min(LONGEST_BEAT);
        inside.uptime = (passed, Instant::now());
        livy_gateway::clock::millis(passed)
    }

    pub(crate) fn hold(&self, duty: &str) -> bool {
        self.shared.inside().hold(duty, &self.process)
    }

    /// Gives back what it has: it ends as planned.
    pub(crate) fn leave(&self) {
        let mut inside = self.shared.inside();
        inside
            .leases
            .retain(|_, (holder, _)| *holder != self.process);
        inside.listeners.remove(&self.process);
    }

    fn takes(&self, id: GatewayId) {
        let process = self.process.clone();
        self.shared.inside().senders.insert(id, process);
    }

    pub(crate) async fn record(
        &self,
        store: &SqliteStore,
        row: NewRow,
        now: Moment,
    ) -> Result<Recorded> {
        let replaced = row.replaces.map(|replaced| replaced.id);
        if let Some(id) = replaced
            && let Some(row) = store.get(id).await?
        {
            let open = matches!(row.known.phase, Phase::Sending | Phase::Refused);
            let own = self.shared.inside().senders.get(&id) == Some(&self.process);
            // Another process took it over: whatever it made of it stands.
            if !open || !own {
                return Ok(Recorded::Same(row));
            }
        }
        let recorded = unconstrained(store.record(row, now)).await?;
        if let Recorded::New(row) = &recorded {
            self.takes(row.identity.id);
        }
        self.say(replaced);
        Ok(recorded)
    }

    pub(crate) async fn reopen(
        &self,
        store: &SqliteStore,
        id: GatewayId,
        by: GatewayId,
    ) -> Result<()> {
        let phase = store.get(id).await?.map(|row| row.known.phase);
        unconstrained(store.reopen(id, by)).await?;
        if matches!(phase, Some(Phase::Sending | Phase::Refused)) {
            self.takes(id);
        }
        self.say([id, by]);
        Ok(())
    }

    pub(crate) async fn bind(
        &self,
        store: &SqliteStore,
        row: Row,
        now: Moment,
    ) -> Result<(Saved, Vec<Row>)> {
        let id = row.identity.id;
        let (saved, lost) = unconstrained(store.bind(row, now)).await?;
        self.say(lost.iter().map(|row| row.identity.id).chain([id]));
        Ok((saved, lost))
    }

    pub(crate) async fn save(&self, store: &SqliteStore, rows: Vec<Row>) -> Result<Vec<Saved>> {
        let ids: Vec<GatewayId> = rows.iter().map(|row| row.identity.id).collect();
        let (mut seen, mut opens) = (Vec::new(), Vec::new());
        for row in &rows {
            let was = store.get(row.identity.id).await?;
            let is_open = |row: &Row| row.known.phase == Phase::Sending;
            opens.push(is_open(row) && !was.as_ref().is_some_and(is_open));
            seen.push(was.is_none_or(|was| was.version == row.version));
        }
        let saved = unconstrained(store.save(rows)).await?;
        let stored = ids.iter().zip(&saved).zip(seen.iter().zip(opens));
        for ((id, _), (seen, opens)) in
            stored.filter(|((_, saved), _)| matches!(saved, Saved::Stored(_)))
        {
            if !seen {
                let what = format!("batch {id}: a write was stored that had not seen the newest");
                self.shared.world.broken(what);
            }
            // Whoever opens one again looks after it.
            if opens {
                self.takes(*id);
            }
        }
        self.say(ids);
        Ok(saved)
    }

    pub(crate) async fn adopt(
        &self,
        store: &SqliteStore,
        cluster: String,
        seen: Vec<Observed>,
        (asked, now): (Moment, Moment),
    ) -> Result<Adoption> {
        let adoption = unconstrained(store.adopt(cluster, seen, asked, now)).await?;
        self.say(adoption.lost.iter().map(|row| row.identity.id));
        Ok(adoption)
    }

    /// Also leaves out others' submissions whose clients still wait for their answers.
    pub(crate) async fn list(
        &self,
        store: &SqliteStore,
        visible: Visible,
        cluster: Option<String>,
        mut without: Vec<GatewayId>,
        range: RangeOf,
    ) -> Result<(usize, Vec<Row>)> {
        let pending = store.pending().await?;
        {
            let inside = self.shared.inside();
            let ids = pending.iter().filter(|row| !row.known.told);
            let ids = ids.map(|row| row.identity.id);
            without.extend(ids.filter(|id| inside.senders.get(id) != Some(&self.process)));
        }
        store.list(visible, cluster, without, range).await
    }

    /// Lets this process work on open submissions whose sender is not alive any more, and on its own
    /// that nobody works on.
    pub(crate) async fn take_over(&self, store: &SqliteStore) -> Result<Vec<Row>> {
        let mut taken = Vec::new();
        for row in store.pending().await? {
            let id = row.identity.id;
            let sender = self.shared.inside().senders.get(&id).cloned();
            if sender.as_ref() == Some(&self.process) {
                continue;
            }
            if sender.is_some_and(|sender| self.shared.inside().is_alive(&sender)) {
                continue;
            }
            self.takes(id);
            self.shared.world.count("submissions that were taken over");
            taken.push(row);
        }
        // The version tells the former sender, should it go on, that it was given up.
        unconstrained(store.save(taken)).await?;
        let mut pending = store.pending().await?;
        let inside = self.shared.inside();
        pending.retain(|row| inside.senders.get(&row.identity.id) == Some(&self.process));
        Ok(pending)
    }

    pub(crate) async fn is_worked_on_elsewhere(
        &self,
        store: &SqliteStore,
        id: GatewayId,
    ) -> Result<bool> {
        let row = store.get(id).await?;
        let open = row.is_some_and(|row| row.known.phase == Phase::Sending);
        Ok(open && self.shared.inside().is_elsewhere(id, &self.process))
    }

    /// Whoever sends a submission is the one who looks after it: it was not taken over.
    pub(crate) async fn must_be_its_sender(&self, store: &SqliteStore, body: &str) {
        let pending = store.pending().await.unwrap_or_default();
        let key = |row: &&Row| body.contains(&row.identity.lookup.key);
        let Some(row) = pending.iter().find(key) else {
            return;
        };
        let sender = self.shared.inside().senders.get(&row.identity.id).cloned();
        if sender.as_ref() != Some(&self.process) {
            let id = row.identity.id;
            let what = format!("batch {id} is sent by whom it was taken over from");
            self.shared.world.broken(what);
        }
    }

    /// Notes what the others are to be told.
    fn say(&self, ids: impl IntoIterator<Item = GatewayId>) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unsaid.len();
        unsaid.extend(ids);
        if unsaid.len() > before {
            self.more_to_say.notify_one();
        }
    }

    /// Returns what the others are to be told, once.
    pub(crate) fn unsaid(&self) -> BTreeSet<GatewayId> {
        std::mem::take(&mut *self.unsaid.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It could not be said.
    pub(crate) fn say_again(&self, ids: BTreeSet<GatewayId>) {
        self.say(ids);
    }

    /// Tells whoever listens.
    pub(crate) fn notify(&self, ids: &BTreeSet<GatewayId>) {
        if ids.is_empty() {
            return;
        }
        let mut inside = self.shared.inside();
        let others = inside.listeners.iter_mut();
        for (process, line) in others.filter(|(process, _)| **process != self.process) {
            let mut chance = self.shared.world.next_chance(&format!("note/{process}"));
            let comes = Instant::now() + Duration::from_millis(chance.within(1..300));
            let last = line.notes.back().map_or(comes, |(last, _)| *last);
            let note = Change::Batches(ids.iter().copied().collect());
            line.notes.push_back((comes.max(last), note));
            line.more.notify_one();
        }
    }

    pub(crate) fn hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Begins to listen.
    pub(crate) fn listen(&self) {
        let mut inside = self.shared.inside();
        inside
            .listeners
            .insert(self.process.clone(), Line::default());
    }

    /// It knows that it listens.
    pub(crate) fn begins_to_hear(&self) {
        self.hears.store(true, Ordering::Relaxed);
    }

    /// The connection is gone, and what was on its way by it.
    pub(crate) fn hang_up(&self) {
        self.shared.inside().listeners.remove(&self.process);
    }

    /// It knows that the connection is gone.
    pub(crate) fn hears_no_more(&self) {
        self.hears.store(false, Ordering::Relaxed);
    }

    /// Waits for the next note. Whoever stops waiting misses nothing.
    pub(crate) async fn next_note(&self) -> Change {
        loop {
            let line = {
                let inside = self.shared.inside();
                let line = inside.listeners.get(&self.process);
                line.map(|line| {
                    (
                        line.notes.front().map(|(comes, _)| *comes),
                        line.more.clone(),
                    )
                })
            };
            match line {
                None => std::future::pending().await,
                Some((None, more)) => more.notified().await,
                Some((Some(comes), _)) => {
                    sleep_until(comes).await;
                    let mut inside = self.shared.inside();
                    let line = inside.listeners.get_mut(&self.process);
                    if let Some((_, change)) = line.and_then(|line| line.notes.pop_front()) {
                        return change;
                    }
                }
            }
        }
    }
}
