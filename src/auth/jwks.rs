//! A JWT key set that is read again at intervals, and at once when a token names a key that is not
//! in it.
//!
//! A reading that fails keeps the keys that are there. A key that nobody knows asks for one extra
//! reading at most every `UNKNOWN_KEY_PAUSE`, so that forged tokens can't hammer the issuer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

use super::outcome::Outcome;
use crate::live::{Living, Source};
use crate::net::fetch::Fetcher;
use crate::observe::metrics::{Metrics, unix_now};

/// The shortest time between two readings because of unknown keys.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// Where the set is.
#[derive(Debug)]
pub enum Place {
    /// A file, which is read again when it changes.
    File(Arc<Source<JwkSet>>),
    /// A URL, which is read again now and then.
    Url {
        /// Where.
        uri: http::Uri,
        /// By what.
        fetcher: Box<Fetcher>,
        /// How often.
        every: Duration,
    },
}

/// A key set.
#[derive(Clone, Debug)]
pub struct KeySet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    place: Place,
    keys: ArcSwapOption<JwkSet>,
    version: AtomicU64,
    last_try: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

impl KeySet {
    /// Makes a set. One behind a URL is empty until [`KeySet::refresh`] fills it.
    pub fn new(name: &str, place: Place, metrics: Arc<Metrics>) -> Self {
        KeySet(Arc::new(Inner {
            name: name.to_owned(),
            place,
            keys: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            last_try: Mutex::new(None),
            metrics,
        }))
    }

    /// Creates its series.
    pub fn create_series(&self) {
        let name = self.0.name.as_str();
        for outcome in ["ok", "error"] {
            let refreshes = &self.0.metrics.jwks_refresh_total;
            refreshes.with_label_values(&[name, outcome]);
        }
        let keys = self.0.metrics.jwks_keys.with_label_values(&[name]);
        if let Place::File(file) = &self.0.place {
            keys.set(i64::try_from(file.get().keys.len()).unwrap_or(i64::MAX));
        }
    }

    /// Counts how often the keys have changed.
    pub fn version(&self) -> u64 {
        match &self.0.place {
            Place::File(file) => file.version(),
            Place::Url { .. } => self.0.version.load(Ordering::Acquire),
        }
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Option<Arc<dyn Living>> {
        match &self.0.place {
            Place::File(file) => Some(file.clone()),
            Place::Url { .. } => None,
        }
    }

    /// Returns how often it is to be fetched, if it is behind a URL.
    pub fn fetched_every(&self) -> Option<Duration> {
        match &self.0.place {
            Place::File(_) => None,
            Place::Url { every, .. } => Some(*every),
        }
    }

    fn keys(&self) -> Option<Arc<JwkSet>> {
        match &self.0.place {
            Place::File(file) => Some(file.get()),
            Place::Url { .. } => self.0.keys.load_full(),
        }
    }

    /// Returns the name of its authenticator.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Reads a text as a key set.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &[u8]) -> Result<JwkSet, String> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| format!("no JSON Web Key Set: {error}"))?;
        if set.keys.is_empty() {
            Err("a key set without keys".into())
        } else {
            Ok(set)
        }
    }

    /// Reads the set now.
    pub async fn refresh(&self) -> Result<(), String> {
        let result = self.read().await;
        let outcome = if result.is_ok() { "ok" } else { "error" };
        let labels = [self.0.name.as_str()];
        self.0
            .metrics
            .jwks_refresh_total
            .with_label_values(&[self.0.name.as_str(), outcome])
            .inc();
        match result {
            Ok(set) => {
                self.0
                    .metrics
                    .jwks_keys
                    .with_label_values(&labels)
                    .set(i64::try_from(set.keys.len()).unwrap_or(i64::MAX));
                self.0
                    .metrics
                    .jwks_last_success
                    .with_label_values(&labels)
                    .set(unix_now());
                let before = self.0.keys.swap(Some(Arc::new(set.clone())));
                if before.is_none_or(|before| *before != set) {
                    self.0.version.fetch_add(1, Ordering::Release);
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(authenticator = %self.0.name, %error, "the key set could not be read; the keys in force stay");
                Err(error)
            }
        }
    }

    async fn read(&self) -> Result<JwkSet, String> {
        match &self.0.place {
            Place::File(file) => Ok((*file.get()).clone()),
            Place::Url { uri, fetcher, .. } => KeySet::parse(&fetcher.get(uri).await?),
        }
    }

    /// Finds the key for a token.
    ///
    /// # Errors
    /// `UnknownKey`; `Rejected` when the key is for another algorithm; `BackendError` when no set
    /// was ever read.
    pub async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, Outcome> {
        if let Some(found) = self.look(kid, algorithm) {
            return found;
        }
        self.refresh_for_unknown_key().await;
        match self.look(kid, algorithm) {
            Some(found) => found,
            None if self.keys().is_none() => Err(Outcome::BackendError),
            None => Err(Outcome::UnknownKey),
        }
    }

    fn look(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<Result<DecodingKey, Outcome>> {
        let set = self.keys()?;
        let fits = |key: &&Jwk| {
            key.common
                .public_key_use
                .as_ref()
                .is_none_or(|usage| *usage == PublicKeyUse::Signature)
        };
        let key = match kid {
            Some(kid) => set.find(kid)?,
            // RFC 7515 section 4.1.4: `kid` is optional. Without it only a key that is the single
            // fitting one can be meant.
            None => {
                let mut all = set
                    .keys
                    .iter()
                    .filter(fits)
                    .filter(|key| agrees(key, algorithm));
                let first = all.next()?;
                if all.next().is_some() {
                    return None;
                }
                first
            }
        };
        if !agrees(key, algorithm) || !fits(&key) {
            return Some(Err(Outcome::Rejected));
        }
        Some(DecodingKey::from_jwk(key).map_err(|_| Outcome::UnknownKey))
    }

    /// Waits for a fetch that another caller began, or begins one if the last is long enough ago.
    async fn refresh_for_unknown_key(&self) {
        if self.fetched_every().is_none() {
            return;
        }
        let mut last = self.0.last_try.lock().await;
        if last.is_none_or(|at| at.elapsed() >= UNKNOWN_KEY_PAUSE) {
            *last = Some(Instant::now());
            // The failure was logged and counted; the caller sees that the key is still unknown.
            let _ = self.refresh().await;
        }
    }
}

/// Tells whether a key may be used with an algorithm: its `alg` if it has one, else its type.
fn agrees(key: &Jwk, algorithm: Algorithm) -> bool {
    match key.common.key_algorithm {
        Some(declared) => declared
            .to_string()
            .parse::<Algorithm>()
            .is_ok_and(|declared| declared == algorithm),
        None => DecodingKey::from_jwk(key).is_ok_and(|key| key.family() == algorithm.family()),
    }
}
