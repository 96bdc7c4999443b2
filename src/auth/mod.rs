//! Who is calling: the chain of authenticators, and the cache of credentials that were verified a
//! moment ago.
//!
//! Owns `Authorization`: nothing behind this room ever sees it, but for a bearer token where a
//! cluster's credentials are `passthrough`. A file per authenticator; this one decides which of
//! them a credential is for. Leaves what a principal may do to `access`.

pub mod htpasswd;
pub mod jwks;
pub mod jwt;
mod outcome;
mod passwords;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use quick_cache::sync::Cache;
use secrecy::SecretString;

use crate::api::error::Code;
use crate::config::checked::Definition;
use crate::live::{Living, Source};
use crate::observe::metrics::Metrics;
use htpasswd::Htpasswd;
use jwks::KeySet;
use jwt::JwtVerifier;
pub use outcome::Outcome;
use passwords::{Passwords, Unchecked};

/// How long a verified credential is believed without another look. Seconds, so that a removed user
/// is out soon; long enough that a scheduler's polls don't pay bcrypt each time.
const VERIFIED_FOR: Duration = Duration::from_secs(10);

/// How many verified credentials are remembered; about 100 bytes each.
const VERIFIED_CAPACITY: usize = 10_000;

/// The longest password that is hashed, in bytes. Longer ones are nobody's, and some hashes take
/// time with the square of their length: sha-crypt seconds for 20 kB.
const LONGEST_PASSWORD: usize = 1024;

/// Somebody, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub user: String,
    /// The groups that the authenticator vouches for.
    pub groups: Vec<String>,
    /// Which authenticator it was.
    pub authenticator: String,
}

/// Why a credential was not believed.
#[derive(Clone, Copy, Debug)]
enum Failed {
    /// It was looked at, or could not be.
    As(Outcome),
    /// Too many others are being looked at.
    Crowded,
}

impl From<Outcome> for Failed {
    fn from(outcome: Outcome) -> Self {
        Failed::As(outcome)
    }
}

impl Failed {
    fn outcome(self) -> Outcome {
        match self {
            Failed::As(outcome) => outcome,
            Failed::Crowded => Outcome::BackendError,
        }
    }

    /// Returns what to answer with: a 401 would tell a client that its credential is wrong, which
    /// nobody knows when nobody looked.
    fn code(self) -> Code {
        match self {
            Failed::Crowded => Code::TooManyLogins,
            Failed::As(Outcome::BackendError) => Code::AuthBackendUnavailable,
            Failed::As(_) => Code::Unauthenticated,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Failed::As(outcome) => outcome.sentence(),
            Failed::Crowded => "too many logins are being checked at the moment",
        }
    }
}

/// A refusal, with the challenges for the 401.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What to answer with.
    pub code: Code,
    /// Why, for the client.
    pub message: &'static str,
    /// One `WWW-Authenticate` value for each scheme in force; none where the credential is not what
    /// is wrong.
    pub challenges: Vec<HeaderValue>,
}

/// One configured authenticator.
#[derive(Debug)]
pub struct Authenticator {
    /// Its configured name.
    pub name: String,
    /// What tells its definition from another one.
    pub definition: Definition,
    /// What it checks.
    pub check: Check,
}

/// What an authenticator checks.
#[derive(Debug)]
pub enum Check {
    /// Passwords.
    Basic(Arc<Source<Htpasswd>>),
    /// Tokens.
    Jwt(Box<JwtVerifier>),
    /// Nothing: everybody without credentials is this user.
    Anonymous(String),
}

/// The chain.
#[derive(Debug)]
pub struct Authenticators {
    chain: Vec<Arc<Authenticator>>,
    challenges: Vec<HeaderValue>,
    verified: Cache<[u8; 32], Verified>,
    /// Makes the cache's keys useless to whoever reads memory without it, and different in every
    /// process.
    key: hmac::Key,
    passwords: Passwords,
}

#[derive(Clone, Debug)]
struct Verified {
    principal: Arc<Principal>,
    until: Instant,
    version: u64,
}

enum Credential<'a> {
    None,
    Basic { user: String, password: String },
    Bearer(&'a str),
    Unreadable,
    OtherScheme,
}

impl Authenticator {
    /// Counts how often what it believes has changed.
    fn version(&self) -> u64 {
        match &self.check {
            Check::Basic(file) => file.version(),
            Check::Jwt(jwt) => jwt.version(),
            Check::Anonymous(_) => 0,
        }
    }

    /// Returns its key set, if it has one.
    pub fn key_set(&self) -> Option<&KeySet> {
        match &self.check {
            Check::Jwt(jwt) => jwt.key_set(),
            _ => None,
        }
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Option<Arc<dyn Living>> {
        match &self.check {
            Check::Basic(file) => Some(file.clone()),
            Check::Jwt(jwt) => jwt.living(),
            Check::Anonymous(_) => None,
        }
    }
}

impl Authenticators {
    /// Makes the chain.
    pub fn new(chain: Vec<Arc<Authenticator>>) -> Self {
        let mut challenges = Vec::new();
        for one in &chain {
            let challenge = match one.check {
                Check::Basic(_) => "Basic realm=\"livy-gateway\", charset=\"UTF-8\"",
                Check::Jwt(_) => "Bearer realm=\"livy-gateway\"",
                Check::Anonymous(_) => continue,
            };
            let challenge = HeaderValue::from_static(challenge);
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let random = uuid::Uuid::new_v4()
            .into_bytes()
            .into_iter()
            .chain(uuid::Uuid::new_v4().into_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random.collect::<Vec<u8>>());
        Authenticators {
            chain,
            challenges,
            verified: Cache::new(VERIFIED_CAPACITY),
            key,
            passwords: Passwords::new(cores),
        }
    }

    /// Creates the series of the chain.
    pub fn create_series(&self, metrics: &Metrics) {
        for one in &self.chain {
            let name = one.name.as_str();
            for outcome in Outcome::ALL {
                metrics
                    .auth_total
                    .with_label_values(&[name, outcome.as_str()]);
            }
            metrics.auth_duration_seconds.with_label_values(&[name]);
            if let Check::Jwt(jwt) = &one.check {
                jwt.create_series();
            }
        }
    }

    /// Returns the chain.
    pub fn chain(&self) -> &[Arc<Authenticator>] {
        &self.chain
    }

    /// Counts how often what the chain believes has changed: a credential that was verified before
    /// is looked at again.
    fn version(&self) -> u64 {
        self.chain.iter().map(|one| one.version()).sum()
    }

    /// Says who is calling.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        metrics: &Metrics,
    ) -> Result<Arc<Principal>, Refusal> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let header = given.next();
        // Two credentials in one request: no telling which of them another reader would believe.
        if given.next().is_some() {
            return Err(self.refuse_unrecognised(&Credential::Unreadable, metrics));
        }
        let version = self.version();
        let cache_key = header.map(|value| self.keyed_hash(&[value.as_bytes()]));
        if let Some(hit) = cache_key.and_then(|key| self.verified.get(&key))
            && hit.until > Instant::now()
            && hit.version == version
        {
            count(metrics, &hit.principal.authenticator, Outcome::Accepted);
            return Ok(hit.principal);
        }
        let credential = read(header);
        let Some(authenticator) = self.choose(&credential) else {
            return Err(self.refuse_unrecognised(&credential, metrics));
        };
        let started = Instant::now();
        let result = self.check(authenticator, credential).await;
        metrics
            .auth_duration_seconds
            .with_label_values(&[authenticator.name.as_str()])
            .observe(started.elapsed().as_secs_f64());
        match result {
            Ok((user, groups, lifetime)) => {
                count(metrics, &authenticator.name, Outcome::Accepted);
                let principal = Arc::new(Principal {
                    user,
                    groups,
                    authenticator: authenticator.name.clone(),
                });
                if let Some(key) = cache_key {
                    let until = Instant::now() + lifetime.min(VERIFIED_FOR);
                    self.verified.insert(
                        key,
                        Verified {
                            principal: principal.clone(),
                            until,
                            version,
                        },
                    );
                }
                Ok(principal)
            }
            Err(failed) => {
                count(metrics, &authenticator.name, failed.outcome());
                Err(self.refusal(failed))
            }
        }
    }

    fn keyed_hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut tag = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| tag.update(part));
        let mut key = [0; 32];
        key.copy_from_slice(tag.sign().as_ref());
        key
    }

    /// Returns the first authenticator that recognises the credential.
    fn choose(&self, credential: &Credential<'_>) -> Option<&Arc<Authenticator>> {
        let fits = |one: &&Arc<Authenticator>| match (&one.check, credential) {
            (Check::Basic(_), Credential::Basic { .. }) => true,
            (Check::Jwt(jwt), Credential::Bearer(token)) => jwt.recognises(token),
            (Check::Anonymous(_), Credential::None) => true,
            _ => false,
        };
        let same_scheme = |one: &&Arc<Authenticator>| {
            matches!(
                (&one.check, credential),
                (Check::Jwt(_), Credential::Bearer(_))
            )
        };
        self.chain
            .iter()
            .find(fits)
            .or_else(|| self.chain.iter().find(same_scheme))
    }

    async fn check(
        &self,
        authenticator: &Authenticator,
        credential: Credential<'_>,
    ) -> Result<(String, Vec<String>, Duration), Failed> {
        match (&authenticator.check, credential) {
            (Check::Anonymous(user), _) => Ok((user.clone(), Vec::new(), VERIFIED_FOR)),
            (Check::Jwt(jwt), Credential::Bearer(token)) => Ok(jwt.verify(token).await?),
            (Check::Basic(file), Credential::Basic { user, password }) => {
                if password.len() > LONGEST_PASSWORD {
                    return Err(Outcome::Rejected.into());
                }
                // The first authenticator of a kind gets all credentials of that kind, and a user's
                // name can't hold a colon.
                let (version, name) = (file.version().to_be_bytes(), user.clone());
                let parts = [&version, user.as_bytes(), b":", password.as_bytes()];
                let key = self.keyed_hash(&parts);
                let file = file.get();
                match self
                    .passwords
                    .check(key, move || file.verify(&name, &password))
                    .await
                {
                    Ok(true) => Ok((user, Vec::new(), VERIFIED_FOR)),
                    Ok(false) => Err(Outcome::Rejected.into()),
                    Err(Unchecked::TooMany) => Err(Failed::Crowded),
                    Err(Unchecked::Broken) => Err(Outcome::BackendError.into()),
                }
            }
            _ => Err(Outcome::Rejected.into()),
        }
    }

    fn refuse_unrecognised(&self, credential: &Credential<'_>, metrics: &Metrics) -> Refusal {
        let outcome = match credential {
            Credential::None => Outcome::Missing,
            Credential::Unreadable => Outcome::Malformed,
            _ => Outcome::Rejected,
        };
        if let Some(first) = self.chain.first() {
            count(metrics, &first.name, outcome);
        }
        self.refusal(outcome.into())
    }

    fn refusal(&self, failed: Failed) -> Refusal {
        let code = failed.code();
        let challenges = if code == Code::Unauthenticated {
            self.challenges.clone()
        } else {
            Vec::new()
        };
        Refusal {
            code,
            message: failed.sentence(),
            challenges,
        }
    }
}

/// Returns the bearer token of a request whose caller is proven, for a cluster that is asked with
/// it.
pub fn bearer_token(headers: &HeaderMap) -> Option<SecretString> {
    match read(headers.get(AUTHORIZATION)) {
        Credential::Bearer(token) => Some(SecretString::from(token.to_owned())),
        _ => None,
    }
}

fn count(metrics: &Metrics, authenticator: &str, outcome: Outcome) {
    metrics
        .auth_total
        .with_label_values(&[authenticator, outcome.as_str()])
        .inc();
}

fn read(header: Option<&HeaderValue>) -> Credential<'_> {
    let Some(value) = header else {
        return Credential::None;
    };
    let Ok(text) = value.to_str() else {
        return Credential::Unreadable;
    };
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Credential::Bearer(rest);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        // RFC 7617: the first colon ends the user's name; a name can't hold one, a password can.
        let decoded = STANDARD
            .decode(rest)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        return match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((user, password)) if !user.is_empty() => Credential::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            },
            _ => Credential::Unreadable,
        };
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        Credential::Unreadable
    } else {
        Credential::OtherScheme
    }
}
