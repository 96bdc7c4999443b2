//! JSON Web Tokens in `Authorization: Bearer`.
//!
//! The algorithm is decided by the key, never by the token's header alone: a header that asks for
//! another family than its key, or for `none`, is refused. `iss`, `aud` and `exp` are required,
//! `nbf` is honoured (RFC 7519 section 4.1, RFC 8725 section 3.1).

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::jwks::KeySet;
use super::outcome::Outcome;
use crate::live::{Living, Source};

/// Where keys come from.
#[derive(Debug)]
pub enum Keys {
    /// One shared secret.
    Secret(Box<DecodingKey>),
    /// One in a file.
    SecretFile(Arc<Source<DecodingKey>>),
    /// A key set that is read again now and then.
    Set(KeySet),
}

/// A verifier of tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    /// What `iss` must be.
    pub issuer: String,
    /// One of which `aud` must hold.
    pub audiences: Vec<String>,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The keys.
    pub keys: Keys,
    /// The claim with the user.
    pub user_claim: String,
    /// The claim with the groups.
    pub groups_claim: String,
    /// Clock difference allowed.
    pub leeway: Duration,
}

impl JwtVerifier {
    /// Returns its key set, if it has one.
    pub fn key_set(&self) -> Option<&KeySet> {
        match &self.keys {
            Keys::Set(set) => Some(set),
            _ => None,
        }
    }

    /// Counts how often its keys have changed.
    pub fn version(&self) -> u64 {
        match &self.keys {
            Keys::Secret(_) => 0,
            Keys::SecretFile(file) => file.version(),
            Keys::Set(set) => set.version(),
        }
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Option<Arc<dyn Living>> {
        match &self.keys {
            Keys::Secret(_) => None,
            Keys::SecretFile(file) => Some(file.clone()),
            Keys::Set(set) => set.living(),
        }
    }

    /// Creates the series of its keys.
    pub fn create_series(&self) {
        if let Keys::Set(set) = &self.keys {
            set.create_series();
        }
    }

    /// Tells whether the token claims to be from this issuer. Proves nothing: it only chooses who
    /// verifies.
    pub fn recognises(&self, token: &str) -> bool {
        let claims: Option<Map<String, Value>> =
            jsonwebtoken::dangerous::insecure_decode_claims(token).ok();
        claims
            .and_then(|claims| claims.get("iss")?.as_str().map(|iss| iss == self.issuer))
            .unwrap_or(false)
    }

    /// Verifies a token: user, groups, and how long it still holds.
    ///
    /// # Errors
    /// The outcome to count and to tell.
    pub async fn verify(&self, token: &str) -> Result<(String, Vec<String>, Duration), Outcome> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Outcome::Malformed)?;
        // RFC 7515 section 4.1.11: no extension is understood here, so a token that must not be
        // read without one is invalid.
        if header.crit.is_some() {
            return Err(Outcome::Rejected);
        }
        let Some(algorithm) = self
            .algorithms
            .iter()
            .copied()
            .find(|one| *one == header.alg)
        else {
            return Err(Outcome::Rejected);
        };
        let claims = match &self.keys {
            Keys::Secret(key) => self.decode(token, key, algorithm)?,
            Keys::SecretFile(file) => self.decode(token, &file.get(), algorithm)?,
            Keys::Set(set) => {
                let key = set.find(header.kid.as_deref(), algorithm).await?;
                self.decode(token, &key, algorithm)?
            }
        };
        let user = match claims.get(&self.user_claim) {
            Some(Value::String(user)) if !user.trim().is_empty() => user.clone(),
            _ => return Err(Outcome::Rejected),
        };
        Ok((
            user,
            groups(claims.get(&self.groups_claim)),
            self.lifetime(&claims),
        ))
    }

    fn decode(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>, Outcome> {
        if key.family() != algorithm.family() {
            return Err(Outcome::Rejected);
        }
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        jsonwebtoken::decode(token, key, &validation)
            .map(|data| data.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Outcome::Expired,
                ErrorKind::InvalidSignature => Outcome::BadSignature,
                ErrorKind::InvalidAudience => Outcome::WrongAudience,
                ErrorKind::InvalidToken
                | ErrorKind::Base64(_)
                | ErrorKind::Json(_)
                | ErrorKind::Utf8(_) => Outcome::Malformed,
                _ => Outcome::Rejected,
            })
    }

    fn lifetime(&self, claims: &Map<String, Value>) -> Duration {
        let now = jsonwebtoken::get_current_timestamp();
        let end = claims.get("exp").and_then(Value::as_u64).unwrap_or(now);
        Duration::from_secs((end + self.leeway.as_secs()).saturating_sub(now))
    }
}

/// Reads groups: a list of texts, or one text with spaces between as in `scope`.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
