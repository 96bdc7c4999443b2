//! Password checks, rationed: as many at once as there are cores, a bounded queue behind them, each
//! credential once.
//!
//! Owns when a hash is computed; leaves what is computed to `htpasswd`. A check belongs to none of
//! those who asked for it: it goes on for the others when one hangs up, keeps its core until the
//! hash is really done, and leaves the queue when nobody waits for it any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

/// How many checks may wait for each core. At a quarter of a second each (bcrypt at cost 12) the
/// last one waits four seconds, which clients still bear; a longer queue would only be full of
/// askers who gave up.
const QUEUE_PER_CORE: usize = 16;

/// What a credential is known by: never the password itself.
pub(super) type Key = [u8; 32];

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchecked {
    /// The queue is full.
    TooMany,
    /// The check ended without one: a bug, or the gateway is going down.
    Broken,
}

/// The checks that run or wait, and the cores that they share.
#[derive(Debug)]
pub(super) struct Passwords {
    cores: Arc<Semaphore>,
    most: usize,
    open: Arc<Open>,
}

/// What is being checked, each with the place where its verdict will be told.
type Open = Mutex<HashMap<Key, watch::Sender<Option<bool>>>>;

impl Passwords {
    /// Makes room for as many checks at once as there are cores, so that hashing never starves the
    /// polls for long.
    pub(super) fn new(cores: usize) -> Self {
        Passwords {
            cores: Arc::new(Semaphore::new(cores)),
            most: cores * (1 + QUEUE_PER_CORE),
            open: Arc::default(),
        }
    }

    /// Returns whether the password fits, as `work` finds it out; whoever asks meanwhile under the
    /// same key shares the verdict.
    ///
    /// Dropping the future withdraws one asker, never the work that has begun.
    ///
    /// # Errors
    /// There is no verdict, and why.
    pub(super) async fn check(
        &self,
        key: Key,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, Unchecked> {
        let mut verdict = self.join(key, work)?;
        let told = verdict.wait_for(Option::is_some).await;
        told.ok().and_then(|told| *told).ok_or(Unchecked::Broken)
    }

    fn join(
        &self,
        key: Key,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<watch::Receiver<Option<bool>>, Unchecked> {
        let mut open = lock(&self.open);
        if let Some(running) = open.get(&key) {
            return Ok(running.subscribe());
        }
        if open.len() >= self.most {
            return Err(Unchecked::TooMany);
        }
        let (tell, verdict) = watch::channel(None);
        open.insert(key, tell.clone());
        tokio::spawn(run(self.cores.clone(), self.open.clone(), key, tell, work));
        Ok(verdict)
    }
}

async fn run(
    cores: Arc<Semaphore>,
    open: Arc<Open>,
    key: Key,
    tell: watch::Sender<Option<bool>>,
    work: impl FnOnce() -> bool + Send + 'static,
) {
    let core = tokio::select! {
        core = cores.acquire_owned() => core,
        () = abandoned(&open, key, &tell) => return,
    };
    let check = move || {
        // Held by the thread that computes: whoever hangs up can't make room for one more at its
        // side.
        let _core = core;
        work()
    };
    let verdict = tokio::task::spawn_blocking(check).await;
    let mut open = lock(&open);
    if let Ok(fits) = verdict {
        tell.send_replace(Some(fits));
    }
    open.remove(&key);
}

/// Waits until nobody waits for the verdict, and takes the check off the list.
async fn abandoned(open: &Open, key: Key, tell: &watch::Sender<Option<bool>>) {
    loop {
        tell.closed().await;
        let mut open = lock(open);
        // Under the lock nobody new can join; before it, somebody may have.
        if tell.receiver_count() == 0 {
            open.remove(&key);
            return;
        }
    }
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<Key, watch::Sender<Option<bool>>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::{Duration, Instant};

    use super::*;

    /// Work that tells when it begins and ends when it is told to.
    struct Gate {
        began: Receiver<()>,
        go: SyncSender<()>,
        runs: Arc<AtomicUsize>,
    }

    fn gate() -> (Gate, impl FnOnce() -> bool + Send + 'static) {
        let (tell, began) = sync_channel(1);
        let (go, gone) = sync_channel::<()>(1);
        let runs = Arc::new(AtomicUsize::new(0));
        let count = runs.clone();
        let work = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = tell.send(());
            gone.recv().is_ok()
        };
        (Gate { began, go, runs }, work)
    }

    impl Gate {
        fn wait_for_begin(&self) {
            self.began
                .recv_timeout(Duration::from_secs(30))
                .expect("the work begins");
        }
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < end, "it never held: {what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_core_is_kept_until_the_hash_is_done() {
        let passwords = Arc::new(Passwords::new(1));
        let (first, work) = gate();
        let asking = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.check([1; 32], work).await }
        });
        first.wait_for_begin();
        asking.abort();
        let _ = asking.await;
        assert_eq!(
            passwords.cores.available_permits(),
            0,
            "nobody waits, and still it computes"
        );
        first.go.send(()).expect("it waits");
        until("the core is free", || {
            passwords.cores.available_permits() == 1
        })
        .await;
        until("the check is off the list", || {
            lock(&passwords.open).is_empty()
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_credential_is_hashed_once_for_all() {
        let passwords = Arc::new(Passwords::new(4));
        let (first, work) = gate();
        let ask = |work: Box<dyn FnOnce() -> bool + Send>| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.check([1; 32], work).await })
        };
        let hasty = ask(Box::new(work));
        first.wait_for_begin();
        let others: Vec<_> = (0..10)
            .map(|_| ask(Box::new(|| unreachable!("it is being hashed already"))))
            .collect();
        until("all have joined", || {
            lock(&passwords.open)
                .get(&[1; 32])
                .is_some_and(|tell| tell.receiver_count() == 11)
        })
        .await;
        hasty.abort();
        let _ = hasty.await;
        first.go.send(()).expect("it waits");
        for other in others {
            assert_eq!(other.await.expect("no panic"), Ok(true));
        }
        assert_eq!(first.runs.load(Ordering::SeqCst), 1);
        assert_eq!(
            passwords.check([1; 32], || false).await,
            Ok(false),
            "the next one is hashed again"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_queue_is_bounded_and_the_abandoned_leave_it() {
        let passwords = Arc::new(Passwords::new(1));
        let (first, work) = gate();
        let ask = |key: u8, work: Box<dyn FnOnce() -> bool + Send>| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.check([key; 32], work).await })
        };
        let running = ask(0, Box::new(work));
        first.wait_for_begin();
        let waiting: Vec<_> = (1..=16)
            .map(|key| ask(key, Box::new(|| unreachable!("nobody waits for it"))))
            .collect();
        until("the queue is full", || lock(&passwords.open).len() == 17).await;
        assert_eq!(
            passwords.check([99; 32], || true).await,
            Err(Unchecked::TooMany)
        );
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        until("the queue is empty", || lock(&passwords.open).len() == 1).await;
        let next = ask(99, Box::new(|| true));
        first.go.send(()).expect("it waits");
        assert_eq!(running.await.expect("no panic"), Ok(true));
        assert_eq!(next.await.expect("no panic"), Ok(true));
    }

    #[tokio::test]
    async fn a_check_that_breaks_is_no_verdict() {
        let passwords = Passwords::new(1);
        assert_eq!(
            passwords.check([1; 32], || panic!("on purpose")).await,
            Err(Unchecked::Broken)
        );
        assert_eq!(passwords.check([1; 32], || true).await, Ok(true));
    }
}
