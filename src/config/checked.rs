//! The configuration after every value was checked: types that can't hold a wrong one.
//!
//! Whoever holds a [`Config`] need not check again. References exist, durations are durations,
//! secrets are read. Certificates, key sets and password files are opened later, by the rooms that
//! understand them; they report under the same paths.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use livy_dialect::{Flavor, Settings};
use secrecy::{ExposeSecret as _, SecretString};

use super::glob::Glob;

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener.
    pub server: Server,
    /// Where probes and metrics are served.
    pub admin: Admin,
    /// In the order of the file.
    pub authenticators: Vec<Authenticator>,
    /// Who may see and kill everything.
    pub admins: Admins,
    /// Whether everybody may read everything.
    pub visible_to_all: bool,
    /// In the order of their names.
    pub clusters: Vec<Cluster>,
    /// In the order of the file.
    pub routes: Vec<Route>,
    /// The store.
    pub registry: Registry,
    /// How long ended batches are kept.
    pub retain: Duration,
}

/// `server`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    pub tls: Option<ServerTls>,
    pub base_paths: Vec<String>,
    pub limits: Limits,
    pub timeouts: ServerTimeouts,
    pub drain_timeout: Duration,
    pub drain_delay: Duration,
}

/// `admin`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Admin {
    pub listen: SocketAddr,
    pub tls: Option<ServerTls>,
    pub authenticators: Vec<String>,
}

/// `server.tls` and `admin.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub tls13_only: bool,
}

/// `server.limits`; sizes in bytes.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Limits {
    pub request_body: usize,
    pub request_head: usize,
    pub connections: usize,
    pub streams_per_connection: u32,
}

/// `server.timeouts`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct ServerTimeouts {
    pub request_head: Duration,
    pub request_body: Duration,
    pub idle: Duration,
}

/// `admin_users` and `admin_groups`.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Admins {
    pub users: Vec<String>,
    pub groups: Vec<String>,
}

/// What tells a definition from another one: a hash of what the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Definition(pub [u8; 32]);

/// `authenticators.NAME`.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Its name, for metrics and routes.
    pub name: String,
    /// What the file says of it.
    pub definition: Definition,
    /// What it checks.
    pub kind: AuthenticatorKind,
}

/// What an authenticator checks.
#[derive(Clone, Debug)]
pub enum AuthenticatorKind {
    /// htpasswd file.
    Basic {
        /// The file.
        htpasswd_file: PathBuf,
    },
    /// JSON Web Tokens.
    Jwt(Box<Jwt>),
    /// Everybody.
    Anonymous {
        /// Under this name.
        user: String,
    },
}

/// `jwt`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Jwt {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub keys: JwtKeys,
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    pub user_claim: String,
    pub groups_claim: String,
    pub leeway: Duration,
}

/// Where a JWT's keys come from.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// A shared secret.
    Secret(SecretString),
    /// One in a file.
    SecretFile(PathBuf),
    /// A key set in a file.
    File(PathBuf),
    /// A key set behind a URL.
    Url(http::Uri, Duration),
}

/// `clusters.NAME`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Cluster {
    pub name: String,
    pub definition: Definition,
    pub flavor: Flavor,
    /// Scheme, host and path, without a slash at the end: what stands before `/batches`.
    pub base: BaseUrl,
    pub settings: Settings,
    pub credentials: Credentials,
    pub tls: ClusterTls,
    pub timeouts: ClusterTimeouts,
    pub health: Health,
    pub max_in_flight: MaxInFlight,
    pub retries: Retries,
    pub state: ClusterState,
    pub settle: Duration,
    pub freshness: Duration,
    pub watch: Duration,
    pub lost_after: Duration,
    pub stale_reads: Duration,
    pub act_as: ActAs,
    pub act_as_rules: Vec<ActAsRule>,
    pub drop_unsupported: bool,
}

impl Cluster {
    /// Tells whether two definitions mean the same server, which knows the same batches.
    pub fn is_same_server(&self, other: &Cluster) -> bool {
        self.flavor == other.flavor
            && self.base == other.base
            && self.settings.instance_id == other.settings.instance_id
    }
}

/// A base URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `https` or not.
    pub https: bool,
    /// Host and, if it was given, port.
    pub authority: http::uri::Authority,
    /// Empty, or begins with a slash and does not end with one.
    pub path: String,
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}://{}{}",
            if self.https { "https" } else { "http" },
            self.authority,
            self.path
        )
    }
}

/// `credentials`. Two that are equal are one login.
#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// None are sent.
    None,
    /// HTTP Basic.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: Secret,
    },
    /// A token that somebody else keeps fresh.
    Bearer(Secret),
    /// Tokens of IBM Cloud IAM.
    IbmIam {
        /// API key.
        apikey: Secret,
        /// Where tokens are given.
        endpoint: TokenEndpoint,
    },
    /// Tokens by OAuth 2.0 client credentials.
    OAuth2(Box<OAuth2>),
    /// SPNEGO with tickets of Kerberos.
    Kerberos(Box<Kerberos>),
    /// The caller's own token.
    Passthrough,
}

/// A secret, and the file where it is read again.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    /// What it was when the configuration was read.
    pub text: SecretString,
    /// Where it lies, unless in the environment.
    pub file: Option<PathBuf>,
}

/// The same secret: of one in a file, the same file, whatever was in it.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&self.file, &other.file) {
            (None, None) => self.text.expose_secret() == other.text.expose_secret(),
            (ours, theirs) => ours == theirs,
        }
    }
}

/// Where tokens are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// https, or http at a loopback address.
    pub url: http::Uri,
    /// The only CAs to trust there.
    pub ca_file: Option<PathBuf>,
}

/// `credentials.kerberos`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Kerberos {
    pub principal: String,
    pub keytab: PathBuf,
    pub spn: String,
}

/// `credentials.oauth2`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct OAuth2 {
    pub endpoint: TokenEndpoint,
    pub client_id: String,
    pub client_secret: Secret,
    pub scope: Option<String>,
    /// Name and secret go in a header instead of the body.
    pub client_auth_basic: bool,
}

/// `clusters.NAME.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct ClusterTls {
    pub ca_file: Option<PathBuf>,
    pub client_cert: Option<(PathBuf, PathBuf)>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
}

/// `clusters.NAME.timeouts`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct ClusterTimeouts {
    pub connect: Duration,
    pub response: Duration,
    pub create_batch: Duration,
}

/// `clusters.NAME.health`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_after: u32,
    pub healthy_after: u32,
    pub eject_after: u32,
    pub ejection_time: Duration,
    pub max_ejection_time: Duration,
}

/// `clusters.NAME.max_in_flight`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct MaxInFlight {
    pub create_batch: u32,
    pub list_batches: u32,
    pub get_batch: u32,
    pub get_state: u32,
    pub get_log: u32,
    pub delete_batch: u32,
}

/// `clusters.NAME.retries`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Retries {
    pub percent: u32,
    pub floor: u32,
}

/// `clusters.NAME.state`, the stricter the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub enum ClusterState {
    Serving,
    Draining,
    Disabled,
}

/// `clusters.NAME.act_as`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub enum ActAs {
    AuthenticatedUser,
    Client,
    Service,
}

/// One rule of `act_as_rules`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct ActAsRule {
    pub users: Vec<Glob>,
    pub groups: Vec<Glob>,
    pub names: Vec<Glob>,
}

/// `routes[]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Route {
    pub name: String,
    pub matches: Match,
    /// Empty means all.
    pub authenticators: Vec<String>,
    pub targets: Vec<Target>,
    pub idempotency_ttl: Duration,
    pub ambiguous: Ambiguous,
    pub adopts_late_jobs: bool,
}

/// `routes[].ambiguous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub enum Ambiguous {
    Resolve,
    Error,
    Failover,
}

/// `routes[].match`; an empty list matches everything.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Match {
    pub users: Vec<Glob>,
    pub groups: Vec<Glob>,
    pub queue: Vec<Glob>,
    pub name: Vec<Glob>,
    pub file: Vec<Glob>,
    pub header: Vec<(HeaderName, Glob)>,
}

impl Match {
    /// Tells whether it matches everything.
    pub fn is_empty(&self) -> bool {
        let lists = [
            &self.users,
            &self.groups,
            &self.queue,
            &self.name,
            &self.file,
        ];
        lists.iter().all(|list| list.is_empty()) && self.header.is_empty()
    }
}

/// `routes[].targets[]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at the keys of `raw`")]
pub struct Target {
    pub cluster: String,
    pub tier: u32,
    pub weight: u32,
}

/// `registry`.
#[derive(Clone, Debug)]
pub enum Registry {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<Postgres>),
    /// Memory.
    Memory,
    /// Memory, with the ids of the one cluster.
    Passthrough,
}

impl Registry {
    /// Tells whether it is the same database.
    pub fn is_same(&self, other: &Registry) -> bool {
        match (self, other) {
            (Registry::Memory, Registry::Memory)
            | (Registry::Passthrough, Registry::Passthrough) => true,
            (Registry::Sqlite(one), Registry::Sqlite(other)) => one == other,
            (Registry::Postgres(one), Registry::Postgres(other)) => {
                let fixed = |of: &Postgres| match of.url.file {
                    // Its content may change: that is what it is for.
                    Some(_) => String::new(),
                    None => of.url.text.expose_secret().to_owned(),
                };
                let same_place = one.url.file == other.url.file && fixed(one) == fixed(other);
                same_place && one.pool == other.pool && one.tls == other.tls
            }
            _ => false,
        }
    }
}

/// `registry.postgres`.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Where it is, and who this is.
    pub url: Secret,
    /// How many connections at most.
    pub pool: usize,
    /// Whom to trust.
    pub tls: ClusterTls,
}
