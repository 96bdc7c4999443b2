//! Work that many ask for at once and one does: everybody who comes while it is under way shares
//! its outcome, failures too. The work is a task of its own: whoever began it may go away.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

type Board<K, V> = Arc<Mutex<HashMap<K, Arc<Flight<V>>>>>;

/// Work under way, by what it is about.
pub struct Flights<K, V>(Board<K, V>);

/// One piece of work. Those who wait for it are woken in the order in which they came.
struct Flight<V> {
    /// `None` inside: it panicked.
    outcome: OnceLock<Option<V>>,
    landed: Notify,
}

impl<V: Clone> Flight<V> {
    fn land(&self, outcome: Option<V>) {
        let _ = self.outcome.set(outcome);
        self.landed.notify_waiters();
    }

    async fn outcome(&self) -> Option<V> {
        // Listens before it looks: what lands in between is heard.
        let landed = self.landed.notified();
        if self.outcome.get().is_none() {
            landed.await;
        }
        self.outcome.get().cloned().flatten()
    }
}

impl<K, V> Debug for Flights<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

/// Takes the work off the board however it ends, a panic included.
struct Landing<K: Eq + Hash, V: Clone> {
    board: Board<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
    outcome: Option<V>,
}

impl<K: Eq + Hash, V: Clone> Landing<K, V> {
    fn with(mut self, outcome: V) {
        self.outcome = Some(outcome);
    }
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        // Whoever comes from now on begins anew; whoever waits is told.
        lock(&self.board).remove(&self.key);
        self.flight.land(self.outcome.take());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work of this key, or begins it. Returns the outcome and whether another caller had
    /// begun it; `None` if the work panicked.
    pub async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> (Option<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (flight, joined) = {
            let mut board = lock(&self.0);
            match board.get(&key) {
                Some(under_way) => (under_way.clone(), true),
                None => {
                    let flight = Arc::new(Flight {
                        outcome: OnceLock::new(),
                        landed: Notify::new(),
                    });
                    board.insert(key.clone(), flight.clone());
                    let landing = Landing {
                        board: self.0.clone(),
                        key,
                        flight: flight.clone(),
                        outcome: None,
                    };
                    let work = work();
                    tokio::spawn(async move { landing.with(work.await) });
                    (flight, false)
                }
            }
        };
        (flight.outcome().await, joined)
    }

    /// Tells whether work of this key is under way.
    pub fn is_under_way(&self, key: &K) -> bool {
        lock(&self.0).contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn six_who_wait_wait_once() {
        let flights: Arc<Flights<u8, Result<u8, String>>> = Arc::default();
        let began = tokio::time::Instant::now();
        let waiting = (0..6).map(|_| {
            let flights = flights.clone();
            tokio::spawn(async move {
                flights
                    .join(1, || async {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                        Err("hangs".to_owned())
                    })
                    .await
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let mut joined = 0;
        for one in waiting {
            let (outcome, shared) = one.await.expect("no panic");
            assert_eq!(outcome, Some(Err("hangs".to_owned())));
            joined += usize::from(shared);
        }
        assert_eq!((joined, began.elapsed().as_secs()), (5, 30));
        assert!(!flights.is_under_way(&1));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_panic_is_told() {
        let flights: Flights<u8, u8> = Flights::default();
        let (outcome, _) = flights.join(1, || async { panic!("on purpose") }).await;
        assert_eq!(outcome, None);
        assert!(!flights.is_under_way(&1));
    }
}
