//! From what was written to what it means: durations, sizes, addresses, URLs, references, secrets.
//!
//! Every function reads one part and reports into the same list; a value that is wrong is replaced by its default and the rest goes on,
//! so that one run shows every mistake. The result is only used when the list stayed empty.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use livy_dialect::{Flavor, Settings};
use secrecy::SecretString;

use super::checked::*;
use super::glob::Glob;
use super::problem::Problem;
use super::raw::*;
use super::shape::nearest;
use super::tree::{Kind, Node, Step, show};

/// The paths of every flavor, so that a client of any of them moves by changing its host name.
pub const BASE_PATHS: [&str; 6] =
    ["/", "/livy", "/livy/v1", "/gateway/{topology}/livy/v1", "/gateway/{topology}/livy", "/v3/analytics_engines/{instance}/livy"];

/// Checks everything.
pub(crate) fn check(raw: RawConfig, root: &Node, folder: &Path, problems: &mut Vec<Problem>) -> Config {
    let mut c = Checker { root, folder, problems, path: Vec::new(), inline: raw.allow_inline_secrets.unwrap_or(false) };
    let authenticators = c.within("authenticators", |c| c.authenticators(raw.authenticators.unwrap_or_default()));
    let clusters = c.within("clusters", |c| c.clusters(raw.clusters.unwrap_or_default()));
    Config {
        server: c.within("server", |c| c.server(raw.server.unwrap_or_default())),
        admin_listen: c.within("admin", |c| c.admin(raw.admin.unwrap_or_default())),
        admins: Admins { users: raw.admin_users.unwrap_or_default(), groups: raw.admin_groups.unwrap_or_default() },
        visible_to_all: raw.visibility == Some(RawVisibility::All),
        routes: c.within("routes", |c| c.routes(raw.routes.unwrap_or_default())),
        retain: c.within("registry", |c| {
            c.duration("retain", raw.registry.as_ref().and_then(|r| r.retain.clone()), Duration::from_secs(30 * 86_400))
        }),
        registry: c.within("registry", |c| c.registry(raw.registry.unwrap_or_default())),
        authenticators,
        clusters,
    }
}

struct Checker<'a> {
    root: &'a Node,
    folder: &'a Path,
    problems: &'a mut Vec<Problem>,
    path: Vec<Step>,
    inline: bool,
}

impl Checker<'_> {
    fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.at(Step::Key(key.to_owned()), read)
    }

    fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let value = read(self);
        self.path.pop();
        value
    }

    fn report(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem::new(self.root.find(&self.path), &show(&self.path), what.into());
        self.problems.push(problem.remedy(remedy));
    }

    fn duration(&mut self, key: &str, text: Option<DurationText>, default: Duration) -> Duration {
        let Some(DurationText(text)) = text else { return default };
        match parse_duration(&text) {
            Some(duration) => duration,
            None => {
                self.within(key, |c| {
                    c.report(format!("{text:?} is no duration"), "write a number and a unit: `500ms`, `30s`, `10m`, `24h`, `30d`")
                });
                default
            }
        }
    }

    /// A duration that must not be zero: a timeout of nothing would refuse everything.
    fn timeout(&mut self, key: &str, text: Option<DurationText>, default: Duration) -> Duration {
        let given = text.is_some();
        let duration = self.duration(key, text, default);
        if given && duration.is_zero() {
            self.within(key, |c| c.report("must be more than zero", format!("leave it out for the default, {default:?}")));
            return default;
        }
        duration
    }

    fn size(&mut self, key: &str, text: Option<SizeText>, default: usize) -> usize {
        let Some(SizeText(text)) = text else { return default };
        let size = text.parse::<bytesize::ByteSize>().ok().filter(|_| text.ends_with('B'));
        match size.and_then(|size| usize::try_from(size.as_u64()).ok()).filter(|size| *size > 0) {
            Some(size) => size,
            None => {
                self.within(key, |c| c.report(format!("{text:?} is no size"), "write a number and a unit: `64KiB`, `8MiB`"));
                default
            }
        }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn secret(&mut self, key: &str, raw: Option<RawSecret>) -> SecretString {
        let Some(raw) = raw else { return SecretString::default() };
        self.within(key, |c| match raw {
            RawSecret::Inline(text) if c.inline => SecretString::from(text),
            RawSecret::Inline(_) => {
                c.report(
                    "a secret must not stand in the file",
                    "write `{file: path}` or `{env: NAME}`; for tests, `allow_inline_secrets: true` at the top",
                );
                SecretString::default()
            }
            RawSecret::Reference(SecretReference { file: Some(path), env: None }) => match std::fs::read_to_string(c.file(&path)) {
                Ok(text) => SecretString::from(text.strip_suffix('\n').unwrap_or(&text).to_owned()),
                Err(error) => {
                    c.report(
                        format!("can't read the secret file {path:?}: {error}"),
                        "check the path (it is relative to this file) and its permissions",
                    );
                    SecretString::default()
                }
            },
            RawSecret::Reference(SecretReference { file: None, env: Some(name) }) => match std::env::var(&name) {
                Ok(text) => SecretString::from(text),
                Err(_) => {
                    c.report(format!("the environment variable {name} is not set"), format!("set {name}, or use `{{file: path}}`"));
                    SecretString::default()
                }
            },
            RawSecret::Reference(_) => {
                c.report("a secret is exactly one of file and env", "write `{file: path}` or `{env: NAME}`");
                SecretString::default()
            }
        })
    }

    fn server(&mut self, raw: RawServer) -> Server {
        let listen = match raw.listen {
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
            None => Vec::new(),
        };
        let listen = self.within("listen", |c| listen.iter().filter_map(|text| c.address(text)).collect());
        let plaintext = raw.plaintext.unwrap_or(false);
        match (&raw.tls, plaintext) {
            (None, false) => self.report(
                "neither `tls` nor `plaintext: true`",
                "add `tls: {cert_file: tls.crt, key_file: tls.key}`; `plaintext: true` only behind something that ends TLS",
            ),
            (Some(_), true) => self.report("both `tls` and `plaintext: true`", "remove one of the two"),
            _ => {}
        }
        let limits = raw.limits.unwrap_or_default();
        let timeouts = raw.timeouts.unwrap_or_default();
        Server {
            listen,
            tls: raw.tls.map(|tls| self.within("tls", |c| c.server_tls(tls))),
            base_paths: self.within("base_paths", |c| c.base_paths(raw.base_paths)),
            limits: self.within("limits", |c| Limits {
                request_body: c.size("request_body", limits.request_body, 1 << 20),
                // hyper reads a head into one buffer, and wants 8 KiB for it at least.
                request_head: c.size("request_head", limits.request_head, 32 << 10).max(8 << 10),
                connections: c.positive("connections", limits.connections, 10_000) as usize,
                streams_per_connection: c.positive("streams_per_connection", limits.streams_per_connection, 100),
            }),
            timeouts: self.within("timeouts", |c| ServerTimeouts {
                request_head: c.timeout("request_head", timeouts.request_head, Duration::from_secs(10)),
                request_body: c.timeout("request_body", timeouts.request_body, Duration::from_secs(30)),
                idle: c.timeout("idle", timeouts.idle, Duration::from_secs(75)),
            }),
            drain_timeout: self.duration("drain_timeout", raw.drain_timeout, Duration::from_secs(30)),
        }
    }

    fn positive(&mut self, key: &str, value: Option<u32>, default: u32) -> u32 {
        if value == Some(0) {
            self.within(key, |c| c.report("must be 1 or more", format!("leave it out for the default, {default}")));
        }
        value.filter(|n| *n > 0).unwrap_or(default)
    }

    fn address(&mut self, text: &str) -> Option<SocketAddr> {
        let parsed = SocketAddr::from_str(text).ok();
        if parsed.is_none() {
            let remedy = match text.strip_prefix(':') {
                Some(port) => format!("write `0.0.0.0:{port}`"),
                None => "write an IP address and a port, such as `0.0.0.0:8443` or `[::]:8443`".to_owned(),
            };
            self.report(format!("{text:?} is no address"), remedy);
        }
        parsed
    }

    fn server_tls(&mut self, raw: RawServerTls) -> ServerTls {
        let version = raw.min_version.unwrap_or_else(|| "1.2".to_owned());
        if !["1.2", "1.3"].contains(&version.as_str()) {
            self.within("min_version", |c| c.report(format!("{version:?} is no version that is served"), "write \"1.2\" or \"1.3\""));
        }
        ServerTls {
            cert_file: self.file(&raw.cert_file.unwrap_or_default()),
            key_file: self.file(&raw.key_file.unwrap_or_default()),
            tls13_only: version == "1.3",
        }
    }

    fn base_paths(&mut self, raw: Option<Vec<String>>) -> Vec<String> {
        let Some(paths) = raw else { return BASE_PATHS.map(str::to_owned).to_vec() };
        if paths.is_empty() {
            self.report("no path is left to serve", "leave the key out for the defaults");
        }
        for path in &paths {
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                self.report(format!("{path:?} is no base path"), "begin with a slash; `{name}` stands for any one segment");
            }
        }
        paths
    }

    fn admin(&mut self, raw: RawAdmin) -> SocketAddr {
        let default = SocketAddr::from(([127, 0, 0, 1], 9090));
        self.within("listen", |c| raw.listen.map_or(default, |text| c.address(&text).unwrap_or(default)))
    }

    fn registry(&mut self, raw: RawRegistry) -> Registry {
        match (raw.sqlite, raw.memory) {
            (Some(_), Some(_)) => {
                self.report("two stores", "keep one of `sqlite` and `memory`");
                Registry::Memory
            }
            (None, Some(_)) => Registry::Memory,
            (sqlite, None) => {
                let path = sqlite.and_then(|s| s.path).unwrap_or_else(|| "livy-gateway.db".to_owned());
                Registry::Sqlite(self.file(&path))
            }
        }
    }

    fn authenticators(&mut self, raw: BTreeMap<String, RawAuthenticator>) -> Vec<Authenticator> {
        let mut list: Vec<Authenticator> = raw
            .into_iter()
            .filter_map(|(name, raw)| {
                let kind = self.within(&name, |c| c.authenticator(raw))?;
                Some(Authenticator { name, kind })
            })
            .collect();
        let order = self.keys_in_file();
        list.sort_by_key(|one| order.iter().position(|key| *key == one.name));
        if order.is_empty() {
            self.report("no authenticator", "add one; `open: {anonymous: {user: guest}}` lets everybody in");
        }
        list
    }

    /// Returns the keys of the mapping at the current path, in the order of the file.
    fn keys_in_file(&self) -> Vec<String> {
        let mut node = self.root;
        for step in &self.path {
            match (step, &node.kind) {
                (Step::Key(key), Kind::Map(entries)) => match entries.iter().find(|entry| entry.key == *key) {
                    Some(entry) => node = &entry.value,
                    None => return Vec::new(),
                },
                _ => return Vec::new(),
            }
        }
        match &node.kind {
            Kind::Map(entries) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn authenticator(&mut self, raw: RawAuthenticator) -> Option<AuthenticatorKind> {
        match (raw.basic, raw.jwt, raw.anonymous) {
            (Some(basic), None, None) => {
                Some(AuthenticatorKind::Basic { htpasswd_file: self.file(&basic.htpasswd_file.unwrap_or_default()) })
            }
            (None, Some(jwt), None) => Some(AuthenticatorKind::Jwt(Box::new(self.within("jwt", |c| c.jwt(jwt))))),
            (None, None, Some(anonymous)) => {
                let user = anonymous.user.unwrap_or_default();
                if user.trim().is_empty() {
                    self.report("anonymous callers need a name", "write `{anonymous: {user: guest}}`");
                }
                Some(AuthenticatorKind::Anonymous { user })
            }
            // Its one key is unknown, and was reported as that.
            (None, None, None) if !self.keys_in_file().is_empty() => None,
            _ => {
                self.report(
                    "an authenticator is exactly one of basic, jwt and anonymous",
                    "write one of them; further ones get names of their own",
                );
                None
            }
        }
    }

    fn jwt(&mut self, raw: RawJwt) -> Jwt {
        let claims = raw.claims.unwrap_or_default();
        if raw.audiences.as_ref().is_some_and(Vec::is_empty) {
            self.within("audiences", |c| c.report("no audience: every token would be refused", "name at least one"));
        }
        let uses_secret = raw.secret.is_some();
        let keys = match (raw.jwks, raw.secret) {
            (None, Some(secret)) => JwtKeys::Secret(self.secret("secret", Some(secret))),
            (Some(jwks), None) => self.within("jwks", |c| c.jwks(jwks)),
            _ => {
                self.report(
                    "needs exactly one of jwks and secret",
                    "write `jwks: {url: https://...}`, `jwks: {file: ...}` or `secret: {file: ...}`",
                );
                JwtKeys::Secret(SecretString::default())
            }
        };
        if let JwtKeys::Secret(secret) = &keys {
            let length = secrecy::ExposeSecret::expose_secret(secret).len();
            // RFC 7518 section 3.2: a key as long as the hash, or longer.
            if uses_secret && length > 0 && length < 32 {
                self.within("secret", |c| {
                    c.report(format!("{length} bytes are too few for HS256"), "use 32 random bytes or more: `openssl rand -hex 32`")
                });
            }
        }
        Jwt {
            issuer: raw.issuer.unwrap_or_default(),
            audiences: raw.audiences.unwrap_or_default(),
            keys,
            algorithms: self.within("algorithms", |c| c.algorithms(raw.algorithms, uses_secret)),
            user_claim: claims.user.unwrap_or_else(|| "sub".to_owned()),
            groups_claim: claims.groups.unwrap_or_else(|| "groups".to_owned()),
            leeway: self.duration("leeway", raw.leeway, Duration::from_secs(60)),
        }
    }

    fn algorithms(&mut self, raw: Option<Vec<String>>, uses_secret: bool) -> Vec<jsonwebtoken::Algorithm> {
        use jsonwebtoken::Algorithm::*;
        let shared = [("HS256", HS256), ("HS384", HS384), ("HS512", HS512)];
        let public = [
            ("RS256", RS256),
            ("RS384", RS384),
            ("RS512", RS512),
            ("PS256", PS256),
            ("PS384", PS384),
            ("PS512", PS512),
            ("ES256", ES256),
            ("ES384", ES384),
            ("EdDSA", EdDSA),
        ];
        let fitting: &[(&str, jsonwebtoken::Algorithm)] = if uses_secret { &shared } else { &public };
        let Some(names) = raw else {
            return if uses_secret { vec![HS256] } else { public.iter().map(|(_, algorithm)| *algorithm).collect() };
        };
        let known: Vec<&str> = fitting.iter().map(|(name, _)| *name).collect();
        names
            .iter()
            .filter_map(|name| {
                let found = fitting.iter().find(|(known, _)| known == name);
                if found.is_none() {
                    let kind = if uses_secret { "a secret" } else { "a key set" };
                    self.report(format!("{name:?} can't be checked with {kind}"), format!("choose from {}", known.join(", ")));
                }
                found.map(|(_, algorithm)| *algorithm)
            })
            .collect()
    }

    fn jwks(&mut self, raw: RawJwks) -> JwtKeys {
        let refresh = self.timeout("refresh", raw.refresh, Duration::from_secs(600));
        match (raw.url, raw.file) {
            (Some(url), None) => match self.within("url", |c| c.key_set_url(&url)) {
                Some(uri) => JwtKeys::Url(uri, refresh),
                None => JwtKeys::Secret(SecretString::default()),
            },
            (None, Some(file)) => JwtKeys::File(self.file(&file), refresh),
            _ => {
                self.report("needs exactly one of url and file", "write `{url: https://...}` or `{file: keys.json}`");
                JwtKeys::Secret(SecretString::default())
            }
        }
    }

    fn key_set_url(&mut self, text: &str) -> Option<http::Uri> {
        let uri: Option<http::Uri> = text.parse().ok();
        let uri = uri.filter(|uri| uri.host().is_some());
        let Some(uri) = uri else {
            self.report(format!("{text:?} is no URL"), "write `https://host/path`");
            return None;
        };
        let loopback = uri.host().is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host));
        if uri.scheme_str() != Some("https") && !loopback {
            self.report("keys fetched without TLS can be replaced on the way", "use https");
        }
        Some(uri)
    }

    fn clusters(&mut self, raw: BTreeMap<String, RawCluster>) -> Vec<Cluster> {
        if raw.is_empty() && self.keys_in_file().is_empty() {
            self.report("no cluster", "add one: `onprem: {flavor: livy, url: \"http://livy.example.com:8998\"}`");
        }
        raw.into_iter()
            .filter_map(|(name, raw)| {
                if !is_label(&name) {
                    self.within(&name, |c| {
                        c.report(
                            format!("{name:?} is no cluster name"),
                            "use letters, digits, `-`, `_` and `.`: it stands in paths and metrics",
                        )
                    });
                }
                self.within(&name.clone(), |c| c.cluster(name, raw))
            })
            .collect()
    }

    fn cluster(&mut self, name: String, raw: RawCluster) -> Option<Cluster> {
        let flavor = match raw.flavor? {
            RawFlavor::Livy => Flavor::Livy,
            RawFlavor::Knox => Flavor::Knox,
            RawFlavor::Hdinsight => Flavor::Hdinsight,
            RawFlavor::Ibm => Flavor::Ibm,
            RawFlavor::Kyuubi => Flavor::Kyuubi,
        };
        if raw.default_fs.is_some() && flavor != Flavor::Kyuubi {
            self.within("default_fs", |c| c.report(format!("{flavor} resolves paths itself"), "remove the key"));
        }
        if raw.instance_id.is_some() && flavor != Flavor::Ibm {
            self.within("instance_id", |c| c.report(format!("{flavor} has no instances"), "remove the key"));
        }
        let settings = Settings { instance_id: raw.instance_id, default_fs: raw.default_fs };
        let base = self.within("url", |c| c.base_url(&raw.url?, flavor, &settings));
        let timeouts = raw.timeouts.unwrap_or_default();
        let health = raw.health.unwrap_or_default();
        Some(Cluster {
            credentials: self.within("credentials", |c| c.credentials(raw.credentials, flavor)),
            tls: self.within("tls", |c| c.cluster_tls(raw.tls.unwrap_or_default(), base.as_ref())),
            timeouts: self.within("timeouts", |c| ClusterTimeouts {
                connect: c.timeout("connect", timeouts.connect, Duration::from_secs(3)),
                response: c.timeout("response", timeouts.response, Duration::from_secs(30)),
                create_batch: c.timeout("create_batch", timeouts.create_batch, Duration::from_secs(120)),
            }),
            health: self.within("health", |c| Health {
                interval: c.timeout("interval", health.interval, Duration::from_secs(10)),
                timeout: c.timeout("timeout", health.timeout, Duration::from_secs(3)),
                unhealthy_after: c.positive("unhealthy_after", health.unhealthy_after, 3),
                healthy_after: c.positive("healthy_after", health.healthy_after, 2),
            }),
            state: match raw.state {
                None | Some(RawClusterState::Serving) => ClusterState::Serving,
                Some(RawClusterState::Draining) => ClusterState::Draining,
                Some(RawClusterState::Disabled) => ClusterState::Disabled,
            },
            freshness: self.duration("freshness", raw.freshness, Duration::from_secs(1)),
            stale_reads: self.duration("stale_reads", raw.stale_reads, Duration::from_secs(600)),
            act_as: self.within("act_as", |c| c.act_as(raw.act_as, flavor)),
            act_as_rules: self.within("act_as_rules", |c| c.act_as_rules(raw.act_as_rules.unwrap_or_default())),
            drop_unsupported: raw.on_unsupported == Some(RawOnUnsupported::Drop),
            base: base?,
            settings,
            flavor,
            name,
        })
    }

    fn base_url(&mut self, text: &str, flavor: Flavor, settings: &Settings) -> Option<BaseUrl> {
        let uri: Option<http::Uri> = text.parse().ok();
        let parts = uri.and_then(|uri| {
            let https = match uri.scheme_str()? {
                "https" => true,
                "http" => false,
                _ => return None,
            };
            Some((https, uri.authority()?.clone(), uri.path().trim_end_matches('/').to_owned(), uri.query().is_some()))
        });
        let Some((https, authority, path, has_query)) = parts else {
            self.report(format!("{text:?} is no http or https URL"), "write `https://host:port/path`");
            return None;
        };
        if authority.as_str().contains('@') {
            self.report("credentials must not stand in the URL", "use `credentials: {basic: {username: ..., password: {file: ...}}}`");
            return None;
        }
        if has_query {
            self.report("a base URL has no query", "remove everything from `?` on");
        }
        if path.ends_with("/batches") {
            self.report(
                "the URL is what stands before `/batches`",
                format!("write `{}`", text.trim_end_matches('/').trim_end_matches("/batches")),
            );
        }
        if path.is_empty() && flavor == Flavor::Ibm && settings.instance_id.is_none() {
            self.report("an ibm URL without a path needs `instance_id`", "add `instance_id: <the instance's GUID>`");
        }
        let path = if path.is_empty() { flavor.dialect().base_path(settings) } else { path };
        Some(BaseUrl { https, authority, path })
    }

    fn credentials(&mut self, raw: Option<RawCredentials>, flavor: Flavor) -> Credentials {
        let Some(raw) = raw else {
            // The other three can stand open inside a cluster; these two never do.
            if matches!(flavor, Flavor::Ibm) {
                self.report("ibm can't work without credentials", "add `credentials: {bearer: {token: {file: ...}}}`");
            }
            return Credentials::None;
        };
        match (raw.basic, raw.bearer) {
            (Some(_), None) if flavor == Flavor::Ibm => {
                self.report("ibm takes no basic credentials", "use `bearer: {token: {file: ...}}`");
                Credentials::None
            }
            (Some(basic), None) => self.within("basic", |c| {
                let username = basic.username.unwrap_or_default();
                if username.contains(':') {
                    c.within("username", |c| c.report("a user name can't hold a colon", "RFC 7617: the first colon ends the name"));
                }
                Credentials::Basic { username, password: c.secret("password", basic.password) }
            }),
            (None, Some(bearer)) => self.within("bearer", |c| Credentials::Bearer(c.secret("token", bearer.token))),
            (None, None) if !self.keys_in_file().is_empty() => Credentials::None,
            _ => {
                self.report("credentials are exactly one kind", "keep one of `basic` and `bearer`");
                Credentials::None
            }
        }
    }

    fn cluster_tls(&mut self, raw: RawClusterTls, base: Option<&BaseUrl>) -> ClusterTls {
        let given = raw.ca_file.is_some() || raw.cert_file.is_some() || raw.server_name.is_some();
        if given && base.is_some_and(|base| !base.https) {
            self.report("the URL is http, so there is no TLS to set up", "write `https://` in the URL, or remove `tls`");
        }
        let client_cert = match (&raw.cert_file, &raw.key_file) {
            (Some(cert), Some(key)) => Some((self.file(cert), self.file(key))),
            (None, None) => None,
            _ => {
                self.report("a client certificate needs cert_file and key_file", "add the other one");
                None
            }
        };
        ClusterTls {
            ca_file: raw.ca_file.map(|path| self.file(&path)),
            client_cert,
            server_name: raw.server_name,
            insecure_skip_verify: raw.insecure_skip_verify.unwrap_or(false),
        }
    }

    fn act_as(&mut self, raw: Option<RawActAs>, flavor: Flavor) -> ActAs {
        let service_only = matches!(flavor, Flavor::Knox | Flavor::Ibm);
        match raw {
            None if service_only => ActAs::Service,
            None | Some(RawActAs::AuthenticatedUser) if !service_only => ActAs::AuthenticatedUser,
            Some(RawActAs::Client) if !service_only => ActAs::Client,
            Some(RawActAs::Service) => ActAs::Service,
            _ => {
                let why = if flavor == Flavor::Knox {
                    "Knox overwrites proxyUser with the gateway's own login"
                } else {
                    "IBM Analytics Engine has no impersonation"
                };
                self.report(format!("can't work with {flavor}: {why}"), "write `service`, or leave it out");
                ActAs::Service
            }
        }
    }

    fn act_as_rules(&mut self, raw: Vec<RawActAsRule>) -> Vec<ActAsRule> {
        let mut rules = Vec::new();
        for (at, rule) in raw.into_iter().enumerate() {
            let globs = |list: Option<Vec<String>>| list.unwrap_or_default().into_iter().map(Glob::new).collect::<Vec<_>>();
            let rule = ActAsRule { users: globs(rule.users), groups: globs(rule.groups), names: globs(rule.names) };
            if rule.users.is_empty() && rule.groups.is_empty() {
                self.at(Step::Index(at), |c| c.report("a rule for nobody", "add `users: [...]` or `groups: [...]`"));
            }
            rules.push(rule);
        }
        rules
    }

    fn routes(&mut self, raw: Vec<RawRoute>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names = HashSet::new();
        let mut catch_all: Option<String> = None;
        if raw.is_empty() && self.problems.iter().all(|problem| !problem.path.starts_with("routes")) {
            self.report("no route: every submission would be refused", "add `- {name: default, targets: [{cluster: NAME}]}`");
        }
        for (at, raw) in raw.into_iter().enumerate() {
            let route = self.at(Step::Index(at), |c| {
                let route = c.route(raw);
                if !names.insert(route.name.clone()) {
                    c.within("name", |c| {
                        c.report(format!("a second route named {:?}", route.name), "names stand in metrics: make them differ")
                    });
                }
                if let Some(first) = &catch_all {
                    c.report(format!("can never match: the route {first:?} before it matches everything"), "move it up");
                }
                route
            });
            if route.matches.is_empty() && route.authenticators.is_empty() && catch_all.is_none() {
                catch_all = Some(route.name.clone());
            }
            routes.push(route);
        }
        routes
    }

    fn route(&mut self, raw: RawRoute) -> Route {
        let name = raw.name.unwrap_or_default();
        if !name.is_empty() && !is_label(&name) {
            self.within("name", |c| c.report(format!("{name:?} is no route name"), "use letters, digits, `-`, `_` and `.`"));
        }
        let all = self.names_of("authenticators");
        let known: Vec<&str> = all.iter().map(String::as_str).collect();
        self.within("authenticators", |c| {
            for (at, wanted) in raw.authenticators.iter().flatten().enumerate() {
                if !all.contains(wanted) {
                    c.at(Step::Index(at), |c| c.missing("authenticator", wanted, &known));
                }
            }
        });
        let targets = self.within("targets", |c| c.targets(raw.targets));
        Route {
            matches: self.within("match", |c| c.matches(raw.matches.unwrap_or_default())),
            authenticators: raw.authenticators.unwrap_or_default(),
            targets,
            idempotency_ttl: self.timeout("idempotency_ttl", raw.idempotency_ttl, Duration::from_secs(86_400)),
            ambiguous_is_error: raw.ambiguous == Some(RawAmbiguous::Error),
            name,
        }
    }

    /// Returns the names written under a top-level key: what is there but broken was reported where it stands.
    fn names_of(&mut self, key: &str) -> Vec<String> {
        let here = std::mem::replace(&mut self.path, vec![Step::Key(key.to_owned())]);
        let names = self.keys_in_file();
        self.path = here;
        names
    }

    fn missing(&mut self, what: &str, name: &str, known: &[&str]) {
        let remedy = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", known.join(", ")),
        };
        self.report(format!("there is no {what} {name:?}"), remedy);
    }

    fn targets(&mut self, raw: Option<Vec<RawTarget>>) -> Vec<Target> {
        if raw.as_ref().is_some_and(Vec::is_empty) {
            self.report("no target", "write `[{cluster: NAME}]`");
        }
        let written = self.names_of("clusters");
        let known: Vec<&str> = written.iter().map(String::as_str).collect();
        let mut targets = Vec::new();
        for (at, target) in raw.unwrap_or_default().into_iter().enumerate() {
            self.at(Step::Index(at), |c| {
                let Some(cluster) = target.cluster else { return };
                if !written.contains(&cluster) {
                    c.within("cluster", |c| c.missing("cluster", &cluster, &known));
                }
                let weight = c.positive("weight", target.weight, 1);
                targets.push(Target { cluster, tier: target.tier.unwrap_or(1), weight });
            });
        }
        targets
    }

    fn matches(&mut self, raw: RawMatch) -> Match {
        let globs = |list: Option<OneOrMany>| match list {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![Glob::new(one)],
            Some(OneOrMany::Many(many)) => many.into_iter().map(Glob::new).collect(),
        };
        let header = raw.header.unwrap_or_default().into_iter().filter_map(|(name, pattern)| {
            let parsed = http::HeaderName::from_str(&name).ok();
            if parsed.is_none() {
                self.within("header", |c| c.report(format!("{name:?} is no header name"), "use letters, digits and `-`"));
            }
            parsed.map(|name| (name, Glob::new(pattern)))
        });
        Match {
            header: header.collect(),
            users: globs(raw.users),
            groups: globs(raw.groups),
            queue: globs(raw.queue),
            name: globs(raw.name),
            file: globs(raw.file),
        }
    }
}

/// Tells whether a name can stand in a path, a header and a metric label.
fn is_label(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Reads `500ms`, `30s`, `10m`, `24h`, `30d` and sums of them (`1h30m`).
fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) || text.contains(['-', '+', ' ']) {
        return None;
    }
    let span: jiff::Span = text.parse().ok()?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    signed.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for wrong in ["30", "", "fast", "-5s", "5 s", "5x"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }
}
