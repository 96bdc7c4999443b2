//! Somebody at another terminal, under the same login, who looks for a submission by its name while
//! it is being submitted, and wants its end: what is shown stays, and what was to end does not run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::house::{House, Unheard};
use testkit::chance::Chance;

/// What a hunt has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// When the end was asked for.
    pub(crate) asked: Option<Instant>,
    /// When that was confirmed.
    pub(crate) confirmed: Option<Instant>,
    submitted: bool,
}

/// A hunt, shared by the hunter and whoever submits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hunt(Arc<Mutex<End>>);

impl Hunt {
    pub(crate) fn end(&self) -> End {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut End)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Nothing new is submitted any more.
    pub(crate) fn submitted(&self) {
        self.note(|end| end.submitted = true);
    }
}

/// How often a hunter looks in vain after the last submission.
const LOOKS: u32 = 3;

pub(crate) struct Hunter {
    pub(crate) house: House,
    pub(crate) user: &'static str,
    pub(crate) name: String,
    pub(crate) chance: Chance,
    pub(crate) until: Instant,
    pub(crate) hunt: Hunt,
}

impl Hunter {
    pub(crate) async fn hunt(mut self) {
        if let Some(id) = self.find().await {
            self.kill(id).await;
        }
    }

    async fn pause(&mut self, from: u64, to: u64) {
        sleep(Duration::from_millis(self.chance.within(from..to))).await;
    }

    async fn find(&mut self) -> Option<i64> {
        let path = format!("/batches/{}", self.name);
        let mut vain = 0;
        while vain < LOOKS && Instant::now() < self.until {
            self.pause(20, 3000).await;
            let patience = Duration::from_secs(60);
            let heard = self
                .house
                .ask(self.user, "GET", &path, None, None, patience);
            match heard.await {
                Ok(heard) if heard.status == 200 => return heard.id(),
                Ok(_) if self.hunt.end().submitted => vain += 1,
                _ => {}
            }
        }
        None
    }

    async fn kill(&mut self, id: i64) {
        let path = format!("/batches/{id}");
        while Instant::now() < self.until {
            let first = self.hunt.end().asked.is_none();
            let patience = Duration::from_secs(115);
            let heard = self
                .house
                .ask(self.user, "DELETE", &path, None, None, patience);
            let now = Instant::now();
            match heard.await {
                Ok(heard) if heard.status == 200 || (heard.status == 404 && !first) => {
                    return self.hunt.note(|end| {
                        end.asked.get_or_insert(now);
                        end.confirmed = Some(Instant::now());
                    });
                }
                Ok(heard) if heard.status == 404 => {
                    let what = format!(
                        "{id} was shown as {}, and a kill does not find it",
                        self.name
                    );
                    return self.house.world.broken(what);
                }
                // Only presumed to be it.
                Ok(heard) if heard.status == 403 => return,
                Ok(heard)
                    if ["kill_unconfirmed", "cluster_unavailable"].contains(&heard.code()) =>
                {
                    self.hunt.note(|end| _ = end.asked.get_or_insert(now));
                }
                // It may have been stored.
                Err(Unheard::Cut) => self.hunt.note(|end| _ = end.asked.get_or_insert(now)),
                Ok(_) | Err(Unheard::Away) => {}
            }
            self.pause(1000, 10_000).await;
        }
    }
}
