//! Work that many ask for at once and one does: everybody who comes while it is under way shares
//! its outcome, failures too. The work is a task of its own: whoever began it may go away.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Work under way, by what it is about.
pub struct Flights<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

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
struct Landing<K: Eq + Hash, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>, K);

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
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
        let (mut outcome, joined) = {
            let mut board = lock(&self.0);
            match board.get(&key) {
                Some(under_way) => (under_way.clone(), true),
                None => {
                    let (tell, told) = watch::channel(None);
                    board.insert(key.clone(), told.clone());
                    let landing = Landing(self.0.clone(), key);
                    let work = work();
                    tokio::spawn(async move {
                        let value = work.await;
                        // Whoever comes from now on begins anew; whoever waits is told.
                        drop(landing);
                        tell.send_replace(Some(value));
                    });
                    (told, false)
                }
            }
        };
        let value = outcome
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|value| value.clone());
        (value, joined)
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
}
