//! Tokens that are fetched and kept fresh: one engine for every kind of exchange.
//!
//! One task asks, so that there is never a second exchange under way; it begins with the first
//! request and ends with its owner. Requests only look at what it has: a token that lives is used,
//! whatever became of the last exchange; while the first one is under way they wait for it; with no
//! token and an endpoint that has just failed they fail at once. Time is tokio's, so tests hold it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HeaderValue;
use http_body_util::Full;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::credential::{Credential, Renewal, Signing, Stamp, Unsigned, authorize};
use super::endpoint::{Endpoint, Failure, Granted, LIMIT};
use super::schedule::{Kind, pause_after, refresh_after};
use super::users::Users;
use crate::live::Living;
use crate::observe::exchange::Exchange;
use crate::observe::metrics::unix_now;

/// A cluster's 401 makes the gateway ask for another token at most this often. A login service
/// behind the cluster that is down looks the same as a token that was revoked.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(60);

/// How often it is looked, while the endpoint refuses, whether its secret was changed.
const LOOK: Duration = Duration::from_secs(1);

/// A token counts as ended this long before it does: a request takes its time to arrive.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// No token is believed for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(366 * 86_400);

/// `L` is what is kept: a header that many requests carry, or what makes one for each.
#[derive(Debug)]
pub(super) struct Renewing<L: Login> {
    shared: Arc<Shared<L>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What can be kept for a while.
pub(super) trait Login: Clone + Debug + Send + Sync + 'static {}

impl<L: Clone + Debug + Send + Sync + 'static> Login for L {}

#[derive(Debug)]
struct Shared<L> {
    users: Arc<Users>,
    endpoint: Box<dyn Endpoint<L>>,
    state: watch::Sender<State<L>>,
}

#[derive(Clone, Debug)]
struct State<L> {
    token: Option<Token<L>>,
    /// Why the last exchange brought nothing; none after one that did.
    trouble: Option<Trouble>,
    /// When a cluster's 401 last asked for another token.
    refused: Option<Instant>,
    /// That token is not here yet.
    wanted: bool,
    /// How many exchanges have ended.
    exchanges: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Token<L> {
    pub(super) login: L,
    until: Instant,
    pub(super) stamp: Stamp,
}

#[derive(Clone, Debug)]
struct Trouble {
    words: String,
    next: Instant,
}

impl<L> State<L> {
    fn new() -> Self {
        State {
            token: None,
            trouble: None,
            refused: None,
            wanted: false,
            exchanges: 0,
        }
    }

    fn living(&self) -> Option<&Token<L>> {
        self.token
            .as_ref()
            .filter(|token| token.until > Instant::now())
    }
}

impl<L: Login> Renewing<L> {
    pub(super) fn new(endpoint: Box<dyn Endpoint<L>>, users: Arc<Users>) -> Self {
        let shared = Arc::new(Shared {
            users,
            endpoint,
            state: watch::Sender::new(State::new()),
        });
        Renewing {
            shared,
            task: Mutex::default(),
        }
    }

    /// Starts the task that asks, unless it runs. One that met a bug is started again.
    fn start(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(keep_fresh(self.shared.clone())));
        }
    }

    /// Returns what is kept, and waits for the first one.
    pub(super) async fn token(&self) -> Result<Token<L>, Unsigned> {
        self.start();
        let mut state = self.shared.state.subscribe();
        // The exchange has a limit of its own; this one is for a task that met a bug.
        let limit = Instant::now() + LIMIT + LOOK;
        loop {
            {
                let now = state.borrow_and_update();
                if let Some(token) = now.living() {
                    return Ok(token.clone());
                }
                if let Some(trouble) = &now.trouble {
                    return Err(no_token(&trouble.words, trouble.next));
                }
            }
            if !matches!(timeout_at(limit, state.changed()).await, Ok(Ok(()))) {
                return Err(no_token("the exchange takes too long", limit));
            }
        }
    }

    /// Takes what is kept out of use at once, for it does not work any more.
    #[cfg(feature = "kerberos")]
    pub(super) fn lost(&self, stamp: Stamp) {
        self.shared.state.send_if_modified(|state| {
            let is_current = state
                .token
                .as_ref()
                .is_some_and(|token| token.stamp == stamp);
            if is_current {
                state.token = None;
                // An endpoint in trouble is asked when its pause is over, not before.
                state.wanted = state.trouble.is_none();
            }
            is_current
        });
    }
}

pub(super) fn no_token(why: &str, next: Instant) -> Unsigned {
    Unsigned::NoToken {
        why: why.to_owned(),
        retry_after: next
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1)),
    }
}

impl<L: Login> Drop for Renewing<L> {
    fn drop(&mut self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl<L: Login> Renewing<L> {
    /// What [`Credential::refused`] says.
    pub(super) fn refused(&self, stamp: Stamp) {
        self.shared.state.send_if_modified(|state| {
            let is_current = state
                .token
                .as_ref()
                .is_some_and(|token| token.stamp == stamp);
            let is_time = state
                .refused
                .is_none_or(|at| at.elapsed() >= BETWEEN_REFUSALS);
            // An endpoint in trouble is asked when its pause is over, not before.
            let begins = is_current && is_time && state.trouble.is_none() && !state.wanted;
            if begins {
                state.refused = Some(Instant::now());
                state.wanted = true;
            }
            begins
        });
    }

    /// What [`Credential::renewed`] says.
    pub(super) async fn renewed(&self, stamp: Stamp) -> bool {
        let mut state = self.shared.state.subscribe();
        let limit = Instant::now() + LIMIT + LOOK;
        let settled = state.wait_for(|now| !now.wanted);
        match timeout_at(limit, settled).await {
            Ok(Ok(now)) => now.living().is_some_and(|token| token.stamp > stamp),
            _ => false,
        }
    }

    /// What [`Credential::living`] says.
    pub(super) fn living(&self) -> Vec<Arc<dyn Living>> {
        self.shared.endpoint.living()
    }
}

/// A token that many requests carry.
impl Credential for Renewing<HeaderValue> {
    fn sign<'a>(&'a self, request: &'a mut Request<Full<Bytes>>, _: &'a Exchange) -> Signing<'a> {
        Box::pin(async move {
            let token = self.token().await?;
            authorize(request, token.login);
            Ok(token.stamp)
        })
    }

    fn refused(&self, stamp: Stamp) {
        Renewing::refused(self, stamp);
    }

    fn renewed(&self, stamp: Stamp) -> Renewal<'_> {
        Box::pin(Renewing::renewed(self, stamp))
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        Renewing::living(self)
    }
}

/// Asks, rests, and asks again, until it is aborted.
async fn keep_fresh<L: Login>(shared: Arc<Shared<L>>) {
    let mut failures = 0;
    loop {
        let version = shared.endpoint.secret_version();
        // A life that is told begins when the token is made, which is after this.
        let began = Instant::now();
        let until = match shared.endpoint.ask().await {
            Ok(granted) => {
                failures = 0;
                shared.accept(granted, began)
            }
            Err(failure) => {
                failures += 1;
                shared.note(&failure, failures)
            }
        };
        if failures == 0 {
            let mut state = shared.state.subscribe();
            tokio::select! {
                () = sleep_until(until) => {}
                _ = state.wait_for(|now| now.wanted) => {}
            }
        } else if shared.rest_in_trouble(until, version).await {
            failures = 0;
        }
    }
}

impl<L: Login> Shared<L> {
    /// Takes a token into use; returns when to replace it.
    fn accept(&self, granted: Granted<L>, began: Instant) -> Instant {
        let Granted { login, life } = granted;
        // One of ages would overflow the clock.
        let life = life.min(LONGEST_LIFE);
        let usable = life.saturating_sub(ON_THE_WAY.min(life / 10));
        self.users.ends(unix_now() + life.as_secs_f64());
        self.users.count("ok");
        self.state.send_modify(|state| {
            if state.trouble.take().is_some() {
                tracing::info!(cluster = %self.users, kind = self.users.kind(), "the token endpoint gives tokens again");
            }
            state.exchanges += 1;
            state.wanted = false;
            state.token = Some(Token {
                login,
                until: began + usable,
                stamp: Stamp(state.exchanges),
            });
        });
        tracing::debug!(cluster = %self.users, kind = self.users.kind(), life_s = life.as_secs(), "a token was fetched");
        began + refresh_after(life, chance())
    }

    /// Says what went wrong; returns when to try again.
    fn note(&self, failure: &Failure, failures: u32) -> Instant {
        let pause = pause_after(failure.kind, failures, failure.wish, chance());
        let next = Instant::now() + pause;
        self.users.count(match failure.kind {
            Kind::Refused => "refused",
            Kind::Trouble => "error",
        });
        self.state.send_modify(|state| {
            let left = state
                .living()
                .map(|token| token.until.saturating_duration_since(Instant::now()).as_secs());
            let (why, again_in_s) = (&failure.words, pause.as_secs());
            match left {
                Some(left_s) => {
                    tracing::warn!(cluster = %self.users, kind = self.users.kind(), %why, left_s, again_in_s, "no new token; the old one is used while it lives")
                }
                None => {
                    tracing::error!(cluster = %self.users, kind = self.users.kind(), %why, again_in_s, "no token; nothing can be sent to the cluster")
                }
            }
            state.exchanges += 1;
            state.wanted = false;
            state.trouble = Some(Trouble {
                words: failure.words.clone(),
                next,
            });
        });
        next
    }

    /// Waits out a pause, or until the secret is another; tells which.
    async fn rest_in_trouble(&self, until: Instant, version: u64) -> bool {
        loop {
            let now = Instant::now();
            if self.endpoint.secret_version() != version {
                return true;
            }
            if now >= until {
                return false;
            }
            sleep_until(until.min(now + LOOK)).await;
        }
    }
}

/// Returns a number from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "chance needs no precision")]
fn chance() -> f64 {
    (uuid::Uuid::new_v4().as_u64_pair().1 & 0xffff_ffff) as f64 / 4_294_967_295.0
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Asking;
    use super::*;
    use crate::observe::metrics::Metrics;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// An endpoint that does as it is told, and counts.
    #[derive(Debug, Default)]
    struct Script {
        asked: AtomicU64,
        version: AtomicU64,
        /// Seconds that tokens live; 0 refuses, `DOWN` fails.
        life: AtomicU64,
        takes_ms: AtomicU64,
    }

    const DOWN: u64 = u64::MAX;

    impl Endpoint<HeaderValue> for Arc<Script> {
        fn ask(&self) -> Asking<'_, HeaderValue> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(self.takes_ms.load(Ordering::SeqCst)))
                    .await;
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                let failed = |kind| {
                    Err(Failure {
                        kind,
                        words: format!("no {number}"),
                        wish: None,
                    })
                };
                match self.life.load(Ordering::SeqCst) {
                    0 => failed(Kind::Refused),
                    DOWN => failed(Kind::Trouble),
                    life => Ok(Granted {
                        login: HeaderValue::from_str(&format!("Bearer {number}")).expect("a value"),
                        life: Duration::from_secs(life),
                    }),
                }
            })
        }

        fn secret_version(&self) -> u64 {
            self.version.load(Ordering::SeqCst)
        }

        fn living(&self) -> Vec<Arc<dyn Living>> {
            Vec::new()
        }
    }

    fn made(life: u64) -> (Arc<Script>, Arc<Renewing<HeaderValue>>) {
        let script = Arc::new(Script::default());
        script.life.store(life, Ordering::SeqCst);
        script.takes_ms.store(100, Ordering::SeqCst);
        let endpoint = Box::new(script.clone());
        let users = Users::new("oauth2", &Arc::new(Metrics::new()));
        let renewing = Renewing::new(endpoint, Arc::new(users));
        (script, Arc::new(renewing))
    }

    async fn signed(renewing: &Renewing<HeaderValue>) -> Result<(String, Stamp), Unsigned> {
        let mut request = Request::new(Full::default());
        let stamp = renewing.sign(&mut request, &Exchange::default()).await?;
        let login = request.headers()[http::header::AUTHORIZATION].to_str();
        Ok((login.expect("text").to_owned(), stamp))
    }

    fn asked(script: &Script) -> u64 {
        script.asked.load(Ordering::SeqCst)
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_who_come_at_once_cost_one_exchange() {
        let (script, renewing) = made(3600);
        let all: Vec<_> = (0..50)
            .map(|_| {
                let renewing = renewing.clone();
                tokio::spawn(async move { signed(&renewing).await })
            })
            .collect();
        for one in all {
            let (login, _) = one.await.expect("no panic").expect("signed");
            assert_eq!(login, "Bearer 1");
        }
        assert_eq!(asked(&script), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_fetched_ahead_with_nobody_asking() {
        let (script, renewing) = made(3600);
        signed(&renewing).await.expect("signed");
        pass(2550).await;
        assert_eq!(asked(&script), 1);
        pass(400).await;
        assert_eq!(asked(&script), 2);
        assert_eq!(signed(&renewing).await.expect("signed").0, "Bearer 2");
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_token_goes_on_while_the_endpoint_is_down() {
        let (script, renewing) = made(3600);
        signed(&renewing).await.expect("signed");
        script.life.store(DOWN, Ordering::SeqCst);
        pass(3590).await;
        assert_eq!(signed(&renewing).await.expect("signed").0, "Bearer 1");
        let tries = asked(&script);
        assert!((10..=25).contains(&tries), "{tries} tries in 12 minutes");
        pass(20).await;
        let Err(Unsigned::NoToken { why, retry_after }) = signed(&renewing).await else {
            panic!("the token is over");
        };
        assert!(why.starts_with("no ") && retry_after <= Duration::from_secs(60));
        script.life.store(3600, Ordering::SeqCst);
        pass(61).await;
        signed(&renewing).await.expect("it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_asked_about_once_a_minute_until_the_secret_changes() {
        let (script, renewing) = made(0);
        signed(&renewing).await.expect_err("refused");
        pass(10).await;
        assert_eq!(asked(&script), 3, "three tries");
        pass(300).await;
        assert_eq!(asked(&script), 8, "and one a minute");
        script.life.store(3600, Ordering::SeqCst);
        script.version.store(1, Ordering::SeqCst);
        pass(2).await;
        signed(&renewing)
            .await
            .expect("the new secret is tried at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_cluster_refuses_is_renewed_once() {
        let (script, renewing) = made(3600);
        let (_, first) = signed(&renewing).await.expect("signed");
        let all: Vec<_> = (0..50)
            .map(|_| {
                let renewing = renewing.clone();
                tokio::spawn(async move {
                    renewing.refused(first);
                    renewing.renewed(first).await
                })
            })
            .collect();
        for one in all {
            assert!(one.await.expect("no panic"));
        }
        assert_eq!(asked(&script), 2);
        // The new one is refused as well: so is every other, for a while.
        let (_, second) = signed(&renewing).await.expect("signed");
        renewing.refused(second);
        assert!(!renewing.renewed(second).await);
        // Whoever was on the way with the first one has the second to try.
        renewing.refused(first);
        assert!(renewing.renewed(first).await);
        assert_eq!(asked(&script), 2);
        pass(61).await;
        renewing.refused(second);
        assert!(renewing.renewed(second).await);
        assert_eq!(asked(&script), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_stays_when_there_is_no_other() {
        let (script, renewing) = made(3600);
        let (_, first) = signed(&renewing).await.expect("signed");
        script.life.store(DOWN, Ordering::SeqCst);
        renewing.refused(first);
        assert!(!renewing.renewed(first).await);
        assert_eq!(signed(&renewing).await.expect("signed").1, first);
    }

    #[cfg(feature = "kerberos")]
    #[tokio::test(start_paused = true)]
    async fn what_does_not_work_any_more_is_replaced_at_once() {
        let (script, renewing) = made(3600);
        let (_, first) = signed(&renewing).await.expect("signed");
        renewing.lost(first);
        assert_eq!(signed(&renewing).await.expect("signed").0, "Bearer 2");
        renewing.lost(first);
        assert_eq!(signed(&renewing).await.expect("signed").0, "Bearer 2");
        assert_eq!(asked(&script), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_its_owner() {
        let (script, renewing) = made(60);
        signed(&renewing).await.expect("signed");
        drop(renewing);
        pass(600).await;
        assert_eq!(asked(&script), 1);
    }
}
