//! Submissions: recorded before they are sent, resolved afterwards, explained meanwhile.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{Lookup, Observed, StateReading};

use super::decide;
use super::entry::Entry;
use super::error::RegistryError;
use super::memory::{Registry, WRITE_TRIES, hear, lock};
use super::row::{GatewayId, Known, Phase};
use super::store::{IdempotencyKey, NewRow, Recorded, Replaced, Saved};
use crate::clock::millis;

/// How long an ended batch keeps its name where the cluster itself does not keep names: Livy's
/// default retention.
const NAME_HOLD: Duration = Duration::from_secs(600);

/// A submission about to be sent.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Where it will go.
    pub cluster: String,
    /// By which route.
    pub route: String,
    /// How to find it again.
    pub lookup: Lookup,
    /// Who submits it.
    pub owner: String,
    /// The name that the client gave.
    pub name: Option<String>,
    /// Whether the cluster itself keeps names unique (Livy kinds).
    pub names_kept_by_cluster: bool,
    /// A hash of the submission.
    pub body_hash: String,
    /// The client's `Idempotency-Key`, and for how long it is remembered.
    pub key: Option<(String, Duration)>,
    /// The highest id that the cluster is known to have given.
    pub above: Option<i64>,
    /// The user that the cluster will show, if it does as it is asked.
    pub proxy_user: Option<String>,
    /// Whether the cluster showed a batch of this name just now.
    pub name_in_use: bool,
    /// The earlier attempt of the same submission, at another cluster.
    pub replaces: Option<Replaced>,
}

/// What recording an intent found.
#[derive(Debug)]
pub enum Intention {
    /// Recorded: send it.
    New(Arc<Entry>),
    /// A live batch has the name: this one, or one that its cluster alone knows.
    NameTaken(Option<GatewayId>),
    /// It is here already, sent before: this is its batch.
    Same(Arc<Entry>),
    /// The key was used before for another submission.
    Conflict,
}

impl Registry {
    /// Records a submission that is about to be sent. When this returns, a crash can't lose it any
    /// more.
    ///
    /// # Errors
    /// The database failed; nothing was recorded, nothing may be sent.
    pub async fn record(&self, intent: Intent) -> Result<Intention, RegistryError> {
        let now = self.clock.now();
        let mut row = NewRow {
            cluster: intent.cluster,
            route: intent.route,
            lookup: intent.lookup,
            owner: Some(intent.owner),
            name: intent.name,
            name_hold_ms: if intent.names_kept_by_cluster {
                0
            } else {
                millis(NAME_HOLD)
            },
            body_hash: intent.body_hash,
            key: intent.key.map(|(key, ttl)| IdempotencyKey {
                key,
                until: now.after(ttl),
            }),
            above: intent.above,
            proxy_user: intent.proxy_user,
            name_in_use: intent.name_in_use,
            replaces: intent.replaces,
            seen: 0,
        };
        let replaced = intent.replaces.map(|replaced| replaced.id);
        let replaced = replaced.and_then(|id| self.in_memory(id));
        let recorded = match &replaced {
            Some(replaced) => {
                let version = replaced.stored.lock().await;
                row.seen = *version;
                self.store.record(row, now).await
            }
            None => self.store.record(row, now).await,
        };
        let recorded = self.noted(recorded)?;
        if let Some(replaced) = replaced {
            replaced.change(|known| match &recorded {
                Recorded::New(_) => {
                    known.phase = Phase::Refused;
                    known.may_arrive |= intent.replaces.is_some_and(|old| old.may_arrive);
                    known.resolved = Some(now);
                }
                // Another process took it over, or showed it: it stays.
                Recorded::Same(row) if row.identity.id == replaced.id => {
                    known.phase = row.known.phase.clone();
                }
                _ => {}
            });
        }
        Ok(match recorded {
            Recorded::New(row) => Intention::New(self.remember(row)),
            Recorded::Same(row) => Intention::Same(self.remember(row)),
            Recorded::NameTaken(id) => Intention::NameTaken(id),
            Recorded::Conflict => Intention::Conflict,
        })
    }

    /// Finds what a caller's `Idempotency-Key` stands for: the same submission, another one, or
    /// nothing.
    ///
    /// # Errors
    /// The database failed.
    pub async fn by_key(
        &self,
        owner: &str,
        key: &str,
        body_hash: &str,
    ) -> Result<Option<Intention>, RegistryError> {
        let Some(row) = self.store.by_key(owner.to_owned(), key.to_owned()).await? else {
            return Ok(None);
        };
        let asked = NewRow {
            cluster: String::new(),
            route: String::new(),
            lookup: Lookup {
                key: String::new(),
                sent_name: None,
            },
            owner: Some(owner.to_owned()),
            name: None,
            name_hold_ms: 0,
            body_hash: body_hash.to_owned(),
            key: None,
            above: None,
            proxy_user: None,
            name_in_use: false,
            replaces: None,
            seen: 0,
        };
        Ok(
            match decide::claim(&asked, Some(&row), None, self.clock.now()) {
                decide::Claim::Same(row) => Some(Intention::Same(self.remember(*row))),
                decide::Claim::Conflict => Some(Intention::Conflict),
                decide::Claim::Free | decide::Claim::NameTaken(_) => None,
            },
        )
    }

    /// Resolves a submission: it exists, this is what the cluster says of it.
    ///
    /// Another entry that held the same upstream id loses it and keeps its last known state: its
    /// cluster began to count again.
    ///
    /// # Errors
    /// The database failed; in memory it is bound, and the next process looks it up again.
    pub async fn bind(&self, entry: &Entry, seen: &Observed) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.bind_by(entry, |known| {
            decide::bind(known, seen, now);
        })
        .await
    }

    /// Resolves a submission by what is only presumed to be it, and says so in `sentence`. One
    /// step: nobody sees it bound without that. A wish to kill that was uttered before is void, for
    /// it was not meant for a batch that may be somebody else's.
    ///
    /// # Errors
    /// As [`Registry::bind`].
    pub async fn presume(
        &self,
        entry: &Entry,
        seen: &Observed,
        sentence: &str,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.bind_by(entry, |known| decide::presume(known, seen, sentence, now))
            .await
    }

    pub(super) async fn bind_by(
        &self,
        entry: &Entry,
        bind: impl Fn(&mut Known),
    ) -> Result<(), RegistryError> {
        if !entry.lookup.is_certain()
            && let Some(entry) = self.in_memory(entry.id)
        {
            lock(&self.young).push(entry);
        }
        let now = self.clock.now();
        let mut version = entry.stored.lock().await;
        let mut known = entry.known();
        bind(&mut known);
        for _ in 0..WRITE_TRIES {
            let result = self.noted(
                self.store
                    .bind(entry.row(known.clone(), *version), now)
                    .await,
            );
            match result {
                Ok((Saved::Stored(stored), lost)) => {
                    *version = stored;
                    entry.bind_is_stored();
                    lost.into_iter().for_each(|row| self.absorb(row));
                    entry.change(|memory| {
                        bind(memory);
                        hear(memory, true);
                    });
                    return Ok(());
                }
                Ok((Saved::Older(row), _)) => {
                    *version = row.version;
                    known = decide::forward(&row.known, &known);
                    entry.change(|memory| *memory = decide::forward(&row.known, memory));
                }
                Err(error) => {
                    entry.change(|memory| {
                        bind(memory);
                        hear(memory, true);
                    });
                    // It is bound as soon as that works again, before anything else of it is
                    // stored: the row that has its id must let go of it.
                    entry.bind_is_owed();
                    if let Some(entry) = self.in_memory(entry.id) {
                        self.save_soon(&entry);
                    }
                    return Err(error);
                }
            }
        }
        Err(RegistryError::Store(
            "another writer was always first".into(),
        ))
    }

    /// Resolves a submission: nothing was created. The entry stays as a record that nobody sees;
    /// name and key are free again. Where a client was given the id meanwhile, it ends as `error`
    /// with the reason instead: an id that was handed out stays answerable. Returns whether it
    /// vanished.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refuse(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<bool, RegistryError> {
        // Decided in memory first: from here on nobody is given the id any more.
        let vanishes = entry.change(|known| {
            if known.may_vanish() {
                known.phase = Phase::Refused;
                known.may_arrive |= may_arrive;
            }
            known.phase == Phase::Refused
        });
        if vanishes {
            let now = self.clock.now();
            let vanish = |known: &mut Known| {
                if known.phase == Phase::Refused {
                    known.may_arrive |= may_arrive;
                    known.resolved.get_or_insert(now);
                }
            };
            let stored = self.write(entry, vanish).await;
            if stored.is_err() {
                // Until it is stored its key stands for it, and nobody looks after it.
                entry.change(vanish);
                self.save_soon(entry);
            }
            stored?;
        }
        // Another process may have shown it meanwhile, or taken it over.
        let vanished = entry.phase() == Phase::Refused;
        if !vanished {
            self.end_absent(entry, reason, may_arrive).await?;
        }
        Ok(vanished)
    }

    /// Makes sure that nobody is shown the id of an open submission any more, so that another
    /// cluster may have it; false if somebody was, or asked for its end.
    pub fn withdraw(&self, entry: &Entry) -> bool {
        entry.change(|known| {
            let free = known.may_vanish();
            if free {
                known.phase = Phase::Refused;
            }
            free
        })
    }

    /// Opens a submission again that had given way to another attempt, `by`, which came to nothing:
    /// key and name go back to it in one step.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reopen(
        &self,
        entry: &Arc<Entry>,
        by: Option<&Arc<Entry>>,
    ) -> Result<(), RegistryError> {
        entry.change(|known| (known.phase, known.resolved) = (Phase::Sending, None));
        self.noted(
            self.store
                .reopen(entry.id, by.map_or(entry.id, |by| by.id))
                .await,
        )
    }

    /// Ends a batch that nobody can tell anything about any more, as `error` with the reason.
    /// `may_arrive`: without the cluster's own word.
    ///
    /// # Errors
    /// The database failed.
    pub async fn give_up(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let was_open = entry.is_open();
        self.write(entry, |known| {
            // What another process has found meanwhile is found.
            if !was_open || known.phase == Phase::Sending {
                decide::give_up(known, reason, may_arrive, now);
            }
        })
        .await
    }

    /// Ends a submission whose cluster tells how it ended, but not under which number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ended_unlisted(
        &self,
        entry: &Arc<Entry>,
        end: &StateReading,
        reason: &str,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.write(entry, |known| {
            decide::ended_unlisted(known, end, reason, now)
        })
        .await
    }

    /// Binds a batch again that had been given up: its job came late.
    ///
    /// # Errors
    /// The database failed.
    pub async fn adopt_late(
        &self,
        entry: &Arc<Entry>,
        seen: &Observed,
    ) -> Result<(), RegistryError> {
        self.write(entry, |known| known.phase = Phase::Sending)
            .await?;
        self.bind(entry, seen).await
    }

    /// Notes that somebody is about to be shown this batch, its owner or another; false if it
    /// vanished before that, and may not be shown. Whether its owner has heard of it is stored
    /// soon, once.
    pub fn show(&self, entry: &Arc<Entry>, to_owner: bool) -> bool {
        let (visible, news) = entry.show(to_owner);
        if news {
            self.save_soon(entry);
        }
        visible
    }

    /// Notes that a client is about to be given this id though the submission is open, if it still
    /// is; returns whether. Stored first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tell_if_open(&self, entry: &Arc<Entry>) -> Result<bool, RegistryError> {
        if !entry.tell_if_open() {
            return Ok(false);
        }
        self.write(entry, |known| known.told = true).await?;
        Ok(true)
    }

    /// Ends a submission that is proven not to be there, or to have been refused, as `error` with
    /// the reason, or as deleted if its end was asked for. Only in the first case its key is free.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_absent(&self, entry: &Arc<Entry>, reason: &str) -> Result<(), RegistryError> {
        self.end_absent(entry, reason, true).await
    }

    async fn end_absent(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.write(entry, |known| {
            decide::never_was(known, reason, may_arrive, now)
        })
        .await
    }

    /// Notes a look-up, asked so long after the last byte: for how long look-ups that were answered
    /// have been showing nothing, if this one was answered.
    pub fn looked(&self, entry: &Arc<Entry>, waited: Duration, silence: Option<Duration>) {
        let now = self.clock.now();
        entry.change(|known| {
            known.waited_ms = known.waited_ms.max(millis(waited));
            known.quiet_ms = silence.map_or(0, millis);
            if silence.is_some() {
                known.looked_ms = now.wall_ms;
            }
        });
        self.save_soon(entry);
    }

    /// Notes that its cluster has it, or showed what may be it, though nobody knows under which id:
    /// from now on it is never absent.
    pub fn arrived(&self, entry: &Arc<Entry>) {
        entry.change(|known| known.arrived = true);
        self.save_soon(entry);
    }

    /// Notes what became of a send: nobody holds it any more, or something may. The silence begins
    /// anew.
    pub fn sent(&self, entry: &Arc<Entry>, let_go: bool) {
        let now = self.clock.now();
        entry.change(|known| {
            known.let_go = let_go;
            (known.quiet_ms, known.waited_ms) = (0, 0);
            known.looked_ms = now.wall_ms;
        });
        self.save_soon(entry);
    }

    /// Notes that an absent submission is about to be sent again: the silence that proved it absent
    /// proves nothing any more. Stored first.
    ///
    /// # Errors
    /// The database failed; nothing may be sent.
    pub async fn send_again(&self, entry: &Arc<Entry>) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let begin_anew = |known: &mut Known| {
            known.let_go = false;
            (known.quiet_ms, known.waited_ms) = (0, 0);
            known.looked_ms = now.wall_ms;
        };
        entry.change(begin_anew);
        self.write(entry, begin_anew).await
    }

    /// Says why a submission is open for so long. Stored soon.
    pub fn explain(&self, entry: &Arc<Entry>, sentence: &str) {
        let told = |known: &Known| {
            known
                .app_info
                .get("gatewayReason")
                .is_some_and(|reason| reason.as_deref() == Some(sentence))
        };
        if entry.is_open() && !entry.peek(told) {
            entry.change(|known| {
                drop(
                    known
                        .app_info
                        .insert("gatewayReason".to_owned(), Some(sentence.to_owned())),
                )
            });
            self.save_soon(entry);
        }
    }
}
