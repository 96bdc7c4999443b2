//! A JWT key set that is read again at intervals, and at once when a token names a key that is not
//! in it.
//!
//! A reading that fails keeps the keys that are there. A key that nobody knows asks for one extra
//! reading at most every `UNKNOWN_KEY_PAUSE`, so that forged tokens can't hammer the issuer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

use super::Outcome;
use crate::observe::metrics::{Metrics, unix_now};
use crate::upstream::fetch::Fetcher;

/// The shortest time between two readings because of unknown keys.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// Where the set is.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(http::Uri, Box<Fetcher>),
}

/// A key set.
#[derive(Clone, Debug)]
pub struct KeySet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    source: Source,
    keys: ArcSwapOption<JwkSet>,
    last_try: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

impl KeySet {
    /// Makes an empty set; [`KeySet::refresh`] fills it.
    pub fn new(name: &str, source: Source, metrics: Arc<Metrics>) -> Self {
        for outcome in ["ok", "error"] {
            metrics
                .jwks_refresh_total
                .with_label_values(&[name, outcome]);
        }
        metrics.jwks_keys.with_label_values(&[name]);
        let inner = Inner {
            name: name.to_owned(),
            source,
            keys: ArcSwapOption::empty(),
            last_try: Mutex::new(None),
            metrics,
        };
        KeySet(Arc::new(inner))
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
                self.0.keys.store(Some(Arc::new(set)));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(authenticator = %self.0.name, %error, "the key set could not be read; the keys in force stay");
                Err(error)
            }
        }
    }

    async fn read(&self) -> Result<JwkSet, String> {
        let text = match &self.0.source {
            Source::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| error.to_string())?,
            Source::Url(uri, fetcher) => fetcher.get(uri).await?.into(),
        };
        KeySet::parse(&text)
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
            None if self.0.keys.load().is_none() => Err(Outcome::BackendError),
            None => Err(Outcome::UnknownKey),
        }
    }

    fn look(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<Result<DecodingKey, Outcome>> {
        let set = self.0.keys.load();
        let set = set.as_ref()?;
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

    /// Waits for a reading that another caller began, or begins one if the last is long enough ago.
    async fn refresh_for_unknown_key(&self) {
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
