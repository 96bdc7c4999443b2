//! What a user may write, typed once: the structs are the reader, the JSON Schema and the reference
//! of every key.
//!
//! Nothing here is checked beyond its JSON type. Every field is optional for the reader, so that
//! one mistake never hides another; `#[schemars(required)]` says which ones must be there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A length of time such as `500ms`, `30s`, `10m` or `24h`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("format" = "duration"))]
#[serde(transparent)]
pub struct DurationText(pub String);

/// A size such as `64KiB` or `8MiB`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("format" = "size"))]
#[serde(transparent)]
pub struct SizeText(pub String);

/// A secret: `{file: path}` or `{env: NAME}`; a literal text only with `allow_inline_secrets:
/// true`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawSecret {
    /// A literal.
    Inline(String),
    /// A reference.
    Reference(SecretReference),
}

/// Where a secret is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// A file whose content, less one final newline, is the secret.
    pub file: Option<String>,
    /// An environment variable.
    pub env: Option<String>,
}

/// One text or a list of texts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Many.
    Many(Vec<String>),
}

/// livy-gateway's configuration, `routes.yaml`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// The listener that clients talk to.
    #[schemars(required)]
    pub server: Option<RawServer>,
    /// The listener for probes and metrics.
    pub admin: Option<RawAdmin>,
    /// Who callers may prove to be; tried in the order of the file.
    #[schemars(required)]
    pub authenticators: Option<BTreeMap<String, RawAuthenticator>>,
    /// Groups whose members may see and kill everything.
    pub admin_groups: Option<Vec<String>>,
    /// Users who may see and kill everything.
    pub admin_users: Option<Vec<String>>,
    /// Who sees a batch besides admins: its `owner` (default) or `all`.
    pub visibility: Option<RawVisibility>,
    /// The upstream clusters.
    #[schemars(required)]
    pub clusters: Option<BTreeMap<String, RawCluster>>,
    /// Which submission goes where; the first match wins.
    #[schemars(required)]
    pub routes: Option<Vec<RawRoute>>,
    /// Where submissions are remembered (default: SQLite in `livy-gateway.db` beside the file).
    pub registry: Option<RawRegistry>,
    /// Allows secrets to stand in this file as they are. For tests and demos.
    pub allow_inline_secrets: Option<bool>,
}

/// `server`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    /// Address or list of addresses to listen on, such as `0.0.0.0:8443`; port 0 takes a free one.
    #[schemars(required)]
    pub listen: Option<OneOrMany>,
    /// TLS; needed unless `plaintext` is true.
    pub tls: Option<RawServerTls>,
    /// Serves plain HTTP. Only behind something that ends TLS.
    pub plaintext: Option<bool>,
    /// Paths under which the API is served (default: those of every flavor).
    pub base_paths: Option<Vec<String>>,
    /// Limits.
    pub limits: Option<RawLimits>,
    /// Timeouts.
    pub timeouts: Option<RawServerTimeouts>,
    /// How long requests in flight may take after SIGTERM (30s).
    pub drain_timeout: Option<DurationText>,
    /// How long connections are still accepted after SIGTERM, while `/readyz` already fails (0s):
    /// the time that whoever sends clients here takes to notice.
    pub drain_delay: Option<DurationText>,
}

/// `server.tls`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServerTls {
    /// PEM file with the certificate chain.
    #[schemars(required)]
    pub cert_file: Option<String>,
    /// PEM file with the private key.
    #[schemars(required)]
    pub key_file: Option<String>,
    /// Lowest version, `1.2` (default) or `1.3`.
    pub min_version: Option<String>,
}

/// `server.limits`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Largest request body (1MiB).
    pub request_body: Option<SizeText>,
    /// Largest request head (32KiB).
    pub request_head: Option<SizeText>,
    /// Open connections (10000).
    pub connections: Option<u32>,
    /// Concurrent HTTP/2 streams on one connection (100).
    pub streams_per_connection: Option<u32>,
}

/// `server.timeouts`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServerTimeouts {
    /// From the first byte of a request to the end of its head; also the TLS handshake (10s).
    pub request_head: Option<DurationText>,
    /// The whole body (30s).
    pub request_body: Option<DurationText>,
    /// A connection without a request (75s).
    pub idle: Option<DurationText>,
}

/// `admin`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAdmin {
    /// Address (127.0.0.1:9090).
    pub listen: Option<String>,
    /// Certificate and key; plain HTTP without them.
    pub tls: Option<RawServerTls>,
    /// Who may ask anything but `/livez` and `/readyz`: users of these authenticators; what changes
    /// something is for administrators. Without any, only this machine may reach the listener.
    pub authenticators: Option<Vec<String>>,
    /// Lets everybody who reaches the address read without a login (false). What changes something
    /// is then still for this machine only.
    pub open: Option<bool>,
}

/// `authenticators.NAME`: exactly one kind.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuthenticator {
    /// User and password from an htpasswd file.
    pub basic: Option<RawBasic>,
    /// JSON Web Tokens in `Authorization: Bearer`.
    pub jwt: Option<RawJwt>,
    /// Everybody, under one name.
    pub anonymous: Option<RawAnonymous>,
}

/// `basic`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBasic {
    /// htpasswd file: bcrypt, argon2, sha-crypt, apr1 or {SHA}.
    #[schemars(required)]
    pub htpasswd_file: Option<String>,
}

/// `jwt`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// What `iss` must be.
    #[schemars(required)]
    pub issuer: Option<String>,
    /// One of which `aud` must hold.
    #[schemars(required)]
    pub audiences: Option<Vec<String>>,
    /// The keys, by URL or file.
    pub jwks: Option<RawJwks>,
    /// The key for HS256, HS384 and HS512.
    pub secret: Option<RawSecret>,
    /// Accepted algorithms (default: RS, PS, ES and EdDSA with `jwks`, HS256 with `secret`).
    pub algorithms: Option<Vec<String>>,
    /// Which claims hold user and groups.
    pub claims: Option<RawClaims>,
    /// Clock difference allowed (60s).
    pub leeway: Option<DurationText>,
}

/// `jwt.jwks`: exactly one of `url` and `file`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwks {
    /// https URL of the key set (http only for loopback addresses).
    pub url: Option<String>,
    /// File with the key set.
    pub file: Option<String>,
    /// How often it is read again (10m).
    pub refresh: Option<DurationText>,
}

/// `jwt.claims`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClaims {
    /// The claim with the user's name (`sub`).
    pub user: Option<String>,
    /// The claim with the list of groups (`groups`).
    pub groups: Option<String>,
}

/// `anonymous`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAnonymous {
    /// The name that every caller without credentials gets.
    #[schemars(required)]
    pub user: Option<String>,
}

/// `visibility`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawVisibility {
    /// Only the owner and admins.
    Owner,
    /// Everybody who is authenticated may read; kills stay with owner and admins.
    All,
}

/// `clusters.NAME.flavor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawFlavor {
    /// Apache Livy.
    Livy,
    /// Apache Livy behind Apache Knox.
    Knox,
    /// Azure HDInsight.
    Hdinsight,
    /// IBM Analytics Engine serverless.
    Ibm,
    /// Apache Kyuubi.
    Kyuubi,
}

/// `clusters.NAME`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    /// The dialect that the cluster speaks.
    #[schemars(required)]
    pub flavor: Option<RawFlavor>,
    /// Everything before `/batches`; without a path the flavor's own is used.
    #[schemars(required)]
    pub url: Option<String>,
    /// ibm: the instance's GUID, needed where the URL has no path.
    pub instance_id: Option<String>,
    /// kyuubi: what a path without scheme gets in front, such as `hdfs://nameservice1` (none: sent
    /// as it is, with a warning).
    pub default_fs: Option<String>,
    /// How the gateway logs in; exactly one kind.
    pub credentials: Option<RawCredentials>,
    /// TLS towards the cluster.
    pub tls: Option<RawClusterTls>,
    /// Timeouts towards the cluster.
    pub timeouts: Option<RawClusterTimeouts>,
    /// Probes, and the ejection of a cluster that fails.
    pub health: Option<RawHealth>,
    /// How many requests of each operation may be on their way at once; what is beyond is turned
    /// away.
    pub max_in_flight: Option<RawMaxInFlight>,
    /// How many reads and kills may be sent again.
    pub retries: Option<RawRetries>,
    /// `serving` (default), `draining` (no new batches) or `disabled`.
    pub state: Option<RawClusterState>,
    /// How long look-ups must show nothing before a submission that a front answered counts as
    /// absent (10s).
    pub settle: Option<DurationText>,
    /// How old a polled answer may be (1s); `0s` asks the cluster every time.
    pub freshness: Option<DurationText>,
    /// After how long without news a live batch is asked about though no client asks (1m); `0s`
    /// never. Keep it well below the time for which the cluster remembers ended batches, ten
    /// minutes on a Livy.
    pub watch: Option<DurationText>,
    /// How long a cluster may say that it does not know a live batch before it is believed (30s): a
    /// Livy that recovers says so for a while.
    pub lost_after: Option<DurationText>,
    /// How long polls are answered from what is known while the cluster is away (10m).
    pub stale_reads: Option<DurationText>,
    /// Whom jobs run as: `authenticated_user` (default for livy, hdinsight, kyuubi), `client`,
    /// `service` (default for knox, ibm).
    pub act_as: Option<RawActAs>,
    /// Who else may be named in `proxyUser`.
    pub act_as_rules: Option<Vec<RawActAsRule>>,
    /// What becomes of a field that the cluster can't honour: `reject` (default) or `drop`.
    pub on_unsupported: Option<RawOnUnsupported>,
}

/// `credentials`: exactly one kind.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCredentials {
    /// HTTP Basic.
    pub basic: Option<RawBasicCredentials>,
    /// A bearer token that somebody else keeps fresh.
    pub bearer: Option<RawBearerCredentials>,
    /// Tokens of IBM Cloud IAM for an API key.
    pub ibm_iam: Option<RawIbmIam>,
    /// Tokens of any OAuth 2.0 token endpoint, by client credentials.
    pub oauth2: Option<RawOAuth2>,
    /// SPNEGO with tickets of Kerberos, by a keytab.
    pub kerberos: Option<RawKerberos>,
    /// `{}`: the caller's own bearer token goes to the cluster.
    pub passthrough: Option<RawEmpty>,
}

/// `credentials.basic`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBasicCredentials {
    /// User.
    #[schemars(required)]
    pub username: Option<String>,
    /// Password.
    #[schemars(required)]
    pub password: Option<RawSecret>,
}

/// `credentials.bearer`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBearerCredentials {
    /// Token.
    #[schemars(required)]
    pub token: Option<RawSecret>,
}

/// `credentials.ibm_iam`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIbmIam {
    /// API key; a file is read again when it changes.
    #[schemars(required)]
    pub apikey: Option<RawSecret>,
    /// The token endpoint (`https://iam.cloud.ibm.com/identity/token`).
    pub url: Option<String>,
    /// PEM file with the only CAs to trust at the token endpoint (default: the system's).
    pub ca_file: Option<String>,
}

/// `credentials.oauth2`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOAuth2 {
    /// The token endpoint; https (http only for loopback addresses).
    #[schemars(required)]
    pub token_url: Option<String>,
    /// The client's name there.
    #[schemars(required)]
    pub client_id: Option<String>,
    /// Its secret; a file is read again when it changes.
    #[schemars(required)]
    pub client_secret: Option<RawSecret>,
    /// What is asked for, such as `https://dev.azuresynapse.net/.default` (nothing).
    pub scope: Option<String>,
    /// Where name and secret go: `post` (in the body, default) or `basic` (in a header).
    pub client_auth: Option<RawClientAuth>,
    /// PEM file with the only CAs to trust at the token endpoint (default: the system's).
    pub ca_file: Option<String>,
}

/// `credentials.oauth2.client_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawClientAuth {
    /// `client_secret_post`: in the form.
    Post,
    /// `client_secret_basic`: HTTP Basic.
    Basic,
}

/// `credentials.kerberos`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKerberos {
    /// Whom the gateway logs in as, such as `livy-gateway@EXAMPLE.COM`.
    #[schemars(required)]
    pub principal: Option<String>,
    /// The keytab with its keys; read again when it changes.
    #[schemars(required)]
    pub keytab: Option<String>,
    /// The service's principal, `HTTP/host@REALM`, or `HTTP@host` for krb5.conf to complete
    /// (`HTTP@` and the host of the cluster's URL).
    pub spn: Option<String>,
}

/// `clusters.NAME.tls`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClusterTls {
    /// PEM file with the only CAs to trust (default: the system's).
    pub ca_file: Option<String>,
    /// PEM file with a client certificate.
    pub cert_file: Option<String>,
    /// PEM file with the client certificate's key.
    pub key_file: Option<String>,
    /// The name to verify, where it differs from the URL's host.
    pub server_name: Option<String>,
    /// Accepts any certificate. Warned about at every start, and in a metric.
    pub insecure_skip_verify: Option<bool>,
}

/// `clusters.NAME.timeouts`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClusterTimeouts {
    /// TCP and TLS (3s).
    pub connect: Option<DurationText>,
    /// A whole answer (30s).
    pub response: Option<DurationText>,
    /// The answer to a submission (120s).
    pub create_batch: Option<DurationText>,
}

/// `clusters.NAME.health`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealth {
    /// Between two probes (10s; ibm 1m).
    pub interval: Option<DurationText>,
    /// Of one probe (3s).
    pub timeout: Option<DurationText>,
    /// Failures in a row that make it unhealthy (3).
    pub unhealthy_after: Option<u32>,
    /// Successes in a row that make it healthy again (2).
    pub healthy_after: Option<u32>,
    /// Real requests in a row without an answer, or with a 5xx of whoever stands in front, that
    /// eject the cluster (5); `0` never.
    pub eject_after: Option<u32>,
    /// How long the first such ejection lasts before one request is let through (1s); doubles each
    /// time that one fails.
    pub ejection_time: Option<DurationText>,
    /// How long it lasts at most (1m).
    pub max_ejection_time: Option<DurationText>,
}

/// `clusters.NAME.max_in_flight`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMaxInFlight {
    /// Submissions (100).
    pub create_batch: Option<u32>,
    /// Lists (10).
    pub list_batches: Option<u32>,
    /// Items, also looks for a submission (200).
    pub get_batch: Option<u32>,
    /// States (200).
    pub get_state: Option<u32>,
    /// Logs (50).
    pub get_log: Option<u32>,
    /// Kills (50).
    pub delete_batch: Option<u32>,
}

/// `clusters.NAME.retries`: what reads and kills may cost on top; with both at 0 nothing is sent
/// again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetries {
    /// For every hundred requests (20).
    pub percent: Option<u32>,
    /// For every ten seconds, however little is asked (5).
    pub floor: Option<u32>,
}

/// `clusters.NAME.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawClusterState {
    /// Takes new batches.
    Serving,
    /// Answers for its batches, takes no new ones.
    Draining,
    /// Is not asked anything.
    Disabled,
}

/// `clusters.NAME.act_as`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawActAs {
    /// The caller.
    AuthenticatedUser,
    /// Whom the caller names, if a rule allows it; nobody if the caller names nobody.
    Client,
    /// Nobody is named: jobs run as the gateway's own account.
    Service,
}

/// One rule of `act_as_rules`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawActAsRule {
    /// Callers, by name; globs `*` and `?`.
    pub users: Option<Vec<String>>,
    /// Callers, by group; globs.
    pub groups: Option<Vec<String>>,
    /// Whom they may name; globs.
    #[schemars(required)]
    #[serde(rename = "as")]
    pub names: Option<Vec<String>>,
}

/// `clusters.NAME.on_unsupported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOnUnsupported {
    /// 400 that names the field.
    Reject,
    /// The field is left out, with a warning header.
    Drop,
}

/// `routes[]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// Name, for metrics and headers.
    #[schemars(required)]
    pub name: Option<String>,
    /// What must hold; every key given must match. No `match` means all.
    #[serde(rename = "match")]
    pub matches: Option<RawMatch>,
    /// Authenticators whose callers this route takes (default: all).
    pub authenticators: Option<Vec<String>>,
    /// Where a submission may go.
    #[schemars(required)]
    pub targets: Option<Vec<RawTarget>>,
    /// How long an `Idempotency-Key` is remembered (24h).
    pub idempotency_ttl: Option<DurationText>,
    /// What happens when the outcome of a send stays unclear: `resolve` (default), `error` or
    /// `failover`.
    pub ambiguous: Option<RawAmbiguous>,
    /// What happens to a job that shows up after it was given up: `kill` (default) or `adopt`.
    pub late_jobs: Option<RawLateJobs>,
}

/// `routes[].match`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMatch {
    /// The caller's name; globs.
    pub users: Option<OneOrMany>,
    /// One of the caller's groups; globs.
    pub groups: Option<OneOrMany>,
    /// The request's `queue`; globs.
    pub queue: Option<OneOrMany>,
    /// The request's `name`; globs.
    pub name: Option<OneOrMany>,
    /// The request's `file`; globs.
    pub file: Option<OneOrMany>,
    /// Request headers, by name; globs.
    pub header: Option<BTreeMap<String, String>>,
}

/// `routes[].targets[]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// Name of a cluster.
    #[schemars(required)]
    pub cluster: Option<String>,
    /// Lower tiers first (1).
    pub tier: Option<u32>,
    /// Share within the tier (1).
    pub weight: Option<u32>,
}

/// `routes[].ambiguous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawAmbiguous {
    /// 201 with `starting`; the gateway goes on resolving.
    Resolve,
    /// 502 `submission_unknown`.
    Error,
    /// When no look-up gets through for `settle`, the next target has it: at least once instead of
    /// at most once.
    Failover,
}

/// `routes[].late_jobs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLateJobs {
    /// It is killed: its client was told that it is not there.
    Kill,
    /// It is bound to its batch again, if its client was told nothing final.
    Adopt,
}

/// `registry`: at most one store.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRegistry {
    /// A SQLite file: for one gateway.
    pub sqlite: Option<RawSqlite>,
    /// A PostgreSQL database: for any number of gateways, which are then one.
    pub postgres: Option<RawPostgres>,
    /// Nothing survives the process. For tests and demos.
    pub memory: Option<RawEmpty>,
    /// Nothing is stored: ids are those of the one cluster, which counts its batches (livy, knox,
    /// hdinsight, ibm). For sidecars.
    pub passthrough: Option<RawEmpty>,
    /// How long ended batches are kept (30d).
    pub retain: Option<DurationText>,
}

/// `registry.sqlite`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSqlite {
    /// The database file (`livy-gateway.db`).
    pub path: Option<String>,
}

/// `registry.postgres`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPostgres {
    /// `postgres://user:password@host:5432/database`; read again for each new connection.
    pub url: Option<RawSecret>,
    /// How many connections each gateway opens at most, one more to listen (10).
    pub pool: Option<u32>,
    /// TLS. Without it the system's CAs are trusted; `sslmode=disable` in the URL, or a server at a
    /// loopback address, is spoken to in the clear.
    pub tls: Option<RawClusterTls>,
}

/// A mapping without keys: `{}`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEmpty {}
