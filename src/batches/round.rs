//! Reading a cluster's list, and giving each row to the batch that it shows.
//!
//! A *round* reads the newest rows, for polls and lists alike; a *pass* reads page by page what is
//! older. What no entry in memory is sure of is decided by the registry. No list ends anything: what
//! it does not show is asked for alone.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{Listing, Observed, Operation};
use tokio::time::{Instant, timeout};

use super::Reader;
use crate::clock::Moment;
use crate::fleet::reading::{Pass, Reading, Window};
use crate::fleet::{AskError, SendError, Upstream};
use crate::gateway::reads::{Round, Want};
use crate::registry::{Entry, Same, decide};
use crate::submit;

/// Requests of one round: finding the end of a list of a million rows takes some twenty.
const MOST_REQUESTS: usize = 64;

/// Rows of one round that are passed over because they are too large: an upstream whose every answer
/// is, shows nothing.
const MOST_PASSED_OVER: usize = 3;

/// How often what lives is looked at alone where lists may lag behind.
pub(super) const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);

/// What a window of a list brought.
enum Rows {
    Read(Listing),
    TooLarge,
}

impl Reader {
    /// Reads the newest rows of a cluster's list, or joins whoever is reading them, unless that was
    /// done within `freshness`. Returns whether it answered.
    pub(super) async fn refresh_list(&self, upstream: &Arc<Upstream>) -> bool {
        if self.check_token(upstream).is_err() {
            return false;
        }
        let limit = upstream.config.timeouts.response;
        if upstream.needs_a_caller() {
            // What the cluster shows to one caller is not what it shows to another, nor where.
            let own = Reading::default();
            let round = timeout(limit, self.read_newest(upstream, &own));
            return upstream.health.may_ask() && matches!(round.await, Ok(Round::Read));
        }
        upstream.reading.want_pass();
        let freshness = upstream.config.freshness;
        if upstream
            .reading
            .listed_ago()
            .is_some_and(|age| age < freshness)
        {
            return true;
        }
        if !upstream.health.may_ask() {
            return false;
        }
        let round = timeout(limit, self.join_round(upstream, limit)).await;
        matches!(round, Ok((Round::Read, _)))
    }

    /// Reads the list for polls, or joins whoever is reading it. The second value tells whether
    /// somebody else had begun.
    pub(super) async fn round(&self, upstream: &Arc<Upstream>) -> (Round, bool) {
        // Whom it does not help must still have the time to ask alone.
        let limit = upstream.config.timeouts.response / 2;
        let round = timeout(limit, self.join_round(upstream, limit)).await;
        round.unwrap_or((Round::NotRead, true))
    }

    async fn join_round(&self, upstream: &Arc<Upstream>, limit: Duration) -> (Round, bool) {
        let work = || {
            let (reader, upstream) = (self.clone(), upstream.clone());
            async move {
                let read = reader.read_newest(&upstream, &upstream.reading);
                let round = timeout(limit, read).await;
                upstream.reading.demand(|demand| match &round {
                    Ok(Round::Read) => {}
                    Ok(Round::NotRead | Round::Away(_)) => demand.failed(Instant::now()),
                    Err(_) => demand.too_slow(Instant::now()),
                });
                round.unwrap_or(Round::NotRead)
            }
        };
        let name = upstream.config.name.clone();
        match self.gateway.lists.join(name, work).await {
            (Some(round), joined) => (round, joined),
            (None, joined) => (Round::NotRead, joined),
        }
    }

    /// Reads the newest rows, and as many older ones as are worth it for polls.
    async fn read_newest(&self, upstream: &Arc<Upstream>, reading: &Reading) -> Round {
        let began = Instant::now();
        let mut newest = reading.newest(upstream.dialect().list_is_paged());
        let mut so_far = SoFar::default();
        for _ in 0..MOST_REQUESTS {
            let Some(window) = newest.next() else {
                break;
            };
            let asked = (self.registry().clock().now(), Instant::now());
            match self.read_rows(upstream, window).await {
                Ok(Rows::Read(listing)) => {
                    newest.saw(window, listing.rows, listing.total);
                    let highest = highest(&listing.batches);
                    match (highest, newest.is_whole()) {
                        (Some(highest), true) => upstream.listed_up_to(highest),
                        (Some(highest), false) => upstream.showed_id(&highest.to_string()),
                        (None, _) => {}
                    }
                    let ids = listing.batches.iter().map(|row| row.upstream_id.clone());
                    so_far.last = (window, ids.collect());
                    so_far.rows += listing.rows;
                    match self.take_in(upstream, listing.batches, asked).await {
                        Some(shown) => so_far.serves(&shown),
                        None => return Round::NotRead,
                    }
                }
                Ok(Rows::TooLarge) => {
                    so_far.passed_over += usize::from(window.size <= 1);
                    if so_far.passed_over > MOST_PASSED_OVER {
                        return Round::NotRead;
                    }
                    warn_of_size(upstream, window);
                    newest.too_large(window);
                }
                Err(error) => return not_read(upstream, &error),
            }
        }
        let (window, ids) = std::mem::take(&mut so_far.last);
        reading.listed(began, &newest, &ids);
        self.read_older(upstream, reading, window, so_far).await;
        Round::Read
    }

    /// Reads as many older rows as are worth it for those who poll, and notes what all of it was
    /// worth.
    async fn read_older(
        &self,
        upstream: &Arc<Upstream>,
        reading: &Reading,
        newest: Window,
        mut so_far: SoFar,
    ) {
        let cost = upstream.dialect().cost();
        let worth = reading.demand(|demand| demand.worth(cost));
        let mut older = Pass::new(newest.from);
        while let Some(window) = older.next()
            && so_far.rows + window.size <= worth
        {
            let Some((rows, shown)) = self.read_step(upstream, &mut older, window).await else {
                break;
            };
            so_far.rows += rows;
            so_far.serves(&shown);
        }
        reading.demand(|demand| {
            demand.listed(Instant::now(), so_far.rows, so_far.served, cost);
        });
    }

    /// Goes on with the pass over a long list by one page, if one is under way or due.
    pub(super) async fn read_on(&self, upstream: &Arc<Upstream>) {
        let Some(mut pass) = upstream.reading.pass() else {
            return;
        };
        let Some(window) = pass.next() else {
            return upstream.reading.passed(pass);
        };
        // What could not be read is tried again by the next turn.
        if upstream.health.may_ask() && self.read_step(upstream, &mut pass, window).await.is_some()
        {
            upstream.reading.passed(pass);
        }
    }

    /// Reads one page of a pass; returns how many rows it had, and the batches that they show.
    /// `None`: it could not be read.
    async fn read_step(
        &self,
        upstream: &Arc<Upstream>,
        pass: &mut Pass,
        window: Window,
    ) -> Option<(usize, Vec<Arc<Entry>>)> {
        let asked = (self.registry().clock().now(), Instant::now());
        match self.read_rows(upstream, window).await {
            Ok(Rows::Read(listing)) => {
                let shown = self.take_in(upstream, listing.batches, asked).await?;
                pass.read(window);
                Some((listing.rows, shown))
            }
            Ok(Rows::TooLarge) => {
                warn_of_size(upstream, window);
                pass.too_large(window);
                Some((0, Vec::new()))
            }
            Err(error) => {
                not_read(upstream, &error);
                None
            }
        }
    }

    async fn read_rows(&self, upstream: &Upstream, window: Window) -> Result<Rows, AskError> {
        let dialect = upstream.dialect();
        let request = dialect.list(window.from, window.size);
        let read = upstream
            .ask(
                Operation::ListBatches,
                &request,
                &self.exchange,
                |response| dialect.decode_list(response),
            )
            .await;
        match read {
            // What has no pages is all there is.
            Ok(listing) if !dialect.list_is_paged() => Ok(Rows::Read(Listing {
                total: Some(listing.rows),
                ..listing
            })),
            Ok(listing) => Ok(Rows::Read(listing)),
            Err(AskError::Send(error)) if error.is_too_large() && dialect.list_is_paged() => {
                Ok(Rows::TooLarge)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives each row to the batch that it shows, and returns those. `None`: it could not be stored.
    /// `asked`: when the rows were asked for, by both clocks.
    async fn take_in(
        &self,
        upstream: &Arc<Upstream>,
        rows: Vec<Observed>,
        (asked, asked_at): (Moment, Instant),
    ) -> Option<Vec<Arc<Entry>>> {
        let (mut shown, mut unsure) = (Vec::new(), Vec::new());
        for seen in decide::readable(rows) {
            match upstream.reading.entry_of(&seen.upstream_id) {
                Some(entry) if entry.same(&seen) == Same::Yes => {
                    self.hear(upstream, &entry, &seen, asked_at).await;
                    shown.push(entry);
                }
                _ => unsure.push(seen),
            }
        }
        if unsure.is_empty() {
            return Some(shown);
        }
        let name = &upstream.config.name;
        let listed = match self.registry().adopt(name, unsure, asked).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::error!(cluster = %name, %error, "a list could not be stored");
                return None;
            }
        };
        listed
            .entered
            .into_iter()
            .for_each(|state| upstream.handles.entered(state));
        upstream.reading.knows(&listed.shown);
        shown.extend(listed.shown);
        for (entry, seen) in listed.late {
            submit::late::deal_with(&self.gateway, upstream, &entry, &seen).await;
        }
        if !listed.doubted.is_empty() {
            let (reader, upstream) = (self.clone(), upstream.clone());
            let asking = async move { reader.ask_for_all(listed.doubted, &upstream).await };
            self.gateway.tasks.spawn(asking);
        }
        Some(shown)
    }

    /// Notes what a row says of a batch, unless nothing new can come, or the cluster spoke of that
    /// after the row was asked for.
    async fn hear(
        &self,
        upstream: &Arc<Upstream>,
        entry: &Arc<Entry>,
        seen: &Observed,
        asked_at: Instant,
    ) {
        let is_old = entry.peek(|known| {
            let is_over = known.state.is_terminal() && known.complete;
            is_over || known.heard.is_some_and(|heard| heard >= asked_at)
        });
        if is_old {
            return;
        }
        let late = upstream.dialect().cost().lags && !entry.was_looked_at(LOOKED_AT_EVERY);
        let new_state = match late {
            true => self.registry().observe_late(entry, seen).await,
            false => self.registry().observe(entry, seen).await,
        };
        self.entered(entry, upstream, new_state);
    }

    /// Asks for batches whose ids a list shows for others, as polls do: one that is there is heard
    /// of, one that is not is lost when that has held for a while.
    async fn ask_for_all(&self, doubted: Vec<Arc<Entry>>, upstream: &Upstream) {
        for entry in doubted {
            if self.gateway.stop.is_cancelled() || upstream.health.is_ejected() {
                return;
            }
            if self.answer_from_memory(&entry, Want::State).is_none() {
                // What can't be told now is told by a later poll.
                let _ = Box::pin(self.ask_alone(&entry, upstream, Want::State)).await;
            }
        }
    }
}

/// What a round has read so far.
#[derive(Default)]
struct SoFar {
    rows: usize,
    /// Batches that somebody had asked for.
    served: usize,
    /// Rows that are too large to be read.
    passed_over: usize,
    /// The last window, and the ids that stood there.
    last: (Window, Vec<String>),
}

impl SoFar {
    /// Counts those of some batches that somebody had asked for since they were last counted.
    fn serves(&mut self, shown: &[Arc<Entry>]) {
        self.served += shown.iter().filter(|entry| entry.was_wanted()).count();
    }
}

fn warn_of_size(upstream: &Upstream, window: Window) {
    if window.size <= 1 {
        tracing::warn!(cluster = %upstream.config.name, position = window.from, "a batch of the list is too large to be read, and is passed over");
    }
}

fn highest(rows: &[Observed]) -> Option<i64> {
    rows.iter()
        .filter_map(|row| row.upstream_id.parse().ok())
        .max()
}

/// Tells what it means that a list could not be read.
fn not_read(upstream: &Upstream, error: &AskError) -> Round {
    tracing::debug!(cluster = %upstream.config.name, %error, "the list is answered from what is known");
    match error {
        AskError::Send(send @ SendError::NotSent { .. }) if !send.is_shed() => {
            Round::Away(send.words())
        }
        _ => Round::NotRead,
    }
}
