//! From a configuration to a snapshot, in two steps: everything that can fail, of which nothing is
//! visible yet, and putting it in force, which can't fail.
//!
//! What an earlier configuration defined in the same words is the same thing, and goes on: a
//! cluster with its connections and its health, a login with its token, a chain of authenticators
//! with what it has verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use secrecy::ExposeSecret as _;

use crate::access::Access;
use crate::api::path::BasePaths;
use crate::auth::htpasswd::Htpasswd;
use crate::auth::jwks::{KeySet, Place};
use crate::auth::jwt::{JwtVerifier, Keys};
use crate::auth::{Authenticator, Authenticators, Check};
use crate::config::checked::{self, AuthenticatorKind, Jwt, JwtKeys};
use crate::config::{BuildProblem, Config, long_enough};
use crate::fleet::Upstream;
use crate::fleet::credentials::{self, Opened};
use crate::gateway::Snapshot;
use crate::live::Source;
use crate::net::certificate::ServerCertificate;
use crate::net::tls::{self, ClientTls};
use crate::observe::metrics::{Metrics, NO_ROUTE, SUBMISSION_OUTCOMES};

/// A configuration with all done that can fail.
#[derive(Debug)]
pub struct Built {
    config: Config,
    /// `config` as it may be shown.
    masked: Arc<str>,
    chain: Vec<Arc<Authenticator>>,
    clusters: BTreeMap<String, Cluster>,
    certificate: Option<ServerCertificate>,
    admin_certificate: Option<ServerCertificate>,
}

#[derive(Debug)]
enum Cluster {
    /// As it was.
    Kept(Arc<Upstream>),
    New(Option<ClientTls>, Opened),
}

/// Opens certificates, key sets and password files. `before` is what is in force.
///
/// # Errors
/// Every problem, under the keys of the file.
pub fn build(
    config: Config,
    masked: &serde_json::Value,
    before: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Result<Built, Vec<BuildProblem>> {
    match build_for_now(config, masked, before, metrics)? {
        (built, problems) if problems.is_empty() => Ok(built),
        (_, problems) => Err(problems),
    }
}

/// The same for a start, where there is nothing that could stay in force: what only the time is to
/// blame for comes with it. One cluster's certificate that has expired must not take all others
/// away.
///
/// # Errors
/// Every problem, if one of them is there whatever the time.
pub fn build_for_now(
    config: Config,
    masked: &serde_json::Value,
    before: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Result<(Built, Vec<BuildProblem>), Vec<BuildProblem>> {
    let mut problems = Vec::new();
    let kept = before.map(|before| (&before.config.server.tls, &before.certificate));
    let certificate = certificate("server", config.server.tls.as_ref(), kept, &mut problems);
    let kept = before.map(|before| (&before.config.admin.tls, &before.admin_certificate));
    let admin_certificate =
        self::certificate("admin", config.admin.tls.as_ref(), kept, &mut problems);
    let mut chain = Vec::new();
    for one in &config.authenticators {
        let same = |other: &&Arc<Authenticator>| {
            other.name == one.name && other.definition == one.definition
        };
        let kept = before.and_then(|before| before.authenticators.chain().iter().find(same));
        match kept {
            Some(kept) => chain.push(kept.clone()),
            None => chain.extend(authenticator(one, metrics, &mut problems).map(Arc::new)),
        }
    }
    let in_force = before.into_iter().flat_map(|one| one.upstreams.values());
    let mut logins = in_force.filter_map(|one| one.common_login()).collect();
    let clusters = config.clusters.iter().map(|cluster| {
        let kept = before.and_then(|before| before.upstreams.get(&cluster.name));
        let kept = kept.filter(|kept| kept.config.definition == cluster.definition);
        let cluster_now = match kept {
            Some(kept) => Cluster::Kept(kept.clone()),
            None => {
                let path = ["clusters", cluster.name.as_str()];
                let tls = match cluster.base.https {
                    true => tls::client(&cluster.tls, &path, &mut problems),
                    false => None,
                };
                let login = credentials::build(cluster, &mut logins, metrics, &mut problems);
                Cluster::New(tls, login)
            }
        };
        (cluster.name.clone(), cluster_now)
    });
    let clusters = clusters.collect();
    if !problems.iter().all(|problem| problem.is_of_the_time) {
        return Err(problems);
    }
    let masked = serde_json::to_string_pretty(masked).unwrap_or_default();
    let built = Built {
        config,
        masked: masked.into(),
        chain,
        clusters,
        certificate,
        admin_certificate,
    };
    Ok((built, problems))
}

impl Built {
    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes the pools, and creates the series of everything that is new.
    pub fn into_snapshot(self, before: Option<&Snapshot>, metrics: &Arc<Metrics>) -> Snapshot {
        let config = self.config;
        let mut built = self.clusters;
        let upstreams = config.clusters.iter().filter_map(|cluster| {
            // Each has been built: there is one for each of the configuration.
            let upstream = match built.remove(&cluster.name)? {
                Cluster::Kept(upstream) => upstream,
                Cluster::New(tls, login) => {
                    let metrics = metrics.clone();
                    Arc::new(Upstream::new(cluster.clone(), tls, login, metrics))
                }
            };
            Some((cluster.name.clone(), upstream))
        });
        let upstreams = upstreams.collect();
        create_routes(&config, metrics);
        Snapshot {
            base_paths: BasePaths::new(&config.server.base_paths),
            authenticators: authenticators(self.chain, before, metrics),
            access: Access::new(config.admins.clone(), config.visible_to_all),
            upstreams,
            routes: config.routes.iter().cloned().map(Arc::new).collect(),
            certificate: self.certificate,
            admin_certificate: self.admin_certificate,
            masked: self.masked,
            config,
        }
    }
}

/// Opens a listener's certificate, or goes on with the one that is in force for the same files.
fn certificate(
    listener: &'static str,
    wanted: Option<&checked::ServerTls>,
    kept: Option<(&Option<checked::ServerTls>, &Option<ServerCertificate>)>,
    problems: &mut Vec<BuildProblem>,
) -> Option<ServerCertificate> {
    let wanted = wanted?;
    if let Some((Some(before), Some(certificate))) = kept
        && before == wanted
    {
        return Some(certificate.clone());
    }
    let opened = ServerCertificate::open(wanted, listener, problems);
    opened.map_err(|faults| problems.extend(faults)).ok()
}

/// The same chain keeps what it has verified; another one begins anew.
fn authenticators(
    chain: Vec<Arc<Authenticator>>,
    before: Option<&Snapshot>,
    metrics: &Metrics,
) -> Arc<Authenticators> {
    if let Some(before) = before {
        let old = before.authenticators.chain();
        let same = old
            .iter()
            .zip(&chain)
            .all(|(old, new)| Arc::ptr_eq(old, new));
        if same && old.len() == chain.len() {
            return before.authenticators.clone();
        }
    }
    let authenticators = Authenticators::new(chain);
    authenticators.create_series(metrics);
    Arc::new(authenticators)
}

fn create_routes(config: &Config, metrics: &Metrics) {
    metrics.create_route(NO_ROUTE);
    for route in &config.routes {
        metrics.create_route(&route.name);
        for target in &route.targets {
            for outcome in SUBMISSION_OUTCOMES {
                let labels = [route.name.as_str(), target.cluster.as_str(), outcome];
                metrics.submissions_total.with_label_values(&labels);
            }
        }
    }
}

fn authenticator(
    one: &checked::Authenticator,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Authenticator> {
    let check = match &one.kind {
        AuthenticatorKind::Anonymous { user } => Check::Anonymous(user.clone()),
        AuthenticatorKind::Basic { htpasswd_file } => {
            Check::Basic(htpasswd(&one.name, htpasswd_file, problems)?)
        }
        AuthenticatorKind::Jwt(jwt) => {
            Check::Jwt(Box::new(verifier(&one.name, jwt, metrics, problems)?))
        }
    };
    Some(Authenticator {
        name: one.name.clone(),
        definition: one.definition,
        check,
    })
}

fn htpasswd(
    name: &str,
    file: &std::path::Path,
    problems: &mut Vec<BuildProblem>,
) -> Option<Arc<Source<Htpasswd>>> {
    let key = ["authenticators", name, "basic", "htpasswd_file"];
    let mut fail = |what: String, remedy: &str| {
        problems.push(BuildProblem::new(&key, what, remedy));
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("can't read {}: {error}", file.display());
            fail(what, "make it with `htpasswd -B -c FILE USER`");
            return None;
        }
    };
    if let Err(faults) = Htpasswd::parse(&text) {
        for fault in faults {
            let what = format!("{}: {fault}", file.display());
            fail(
                what,
                "lines are `user:hash`; make one with `htpasswd -nB USER`",
            );
        }
        return None;
    }
    let place = file.display().to_string();
    let read = move |contents: &[Vec<u8>]| {
        let text =
            std::str::from_utf8(&contents[0]).map_err(|_| format!("{place} is not UTF-8"))?;
        Htpasswd::parse(text).map_err(|faults| format!("{place}: {}", faults.join("; ")))
    };
    match Source::open("htpasswd", name, vec![file.to_owned()], read) {
        Ok(source) => Some(source),
        Err(why) => {
            fail(
                why,
                "lines are `user:hash`; make one with `htpasswd -nB USER`",
            );
            None
        }
    }
}

fn verifier(
    name: &str,
    jwt: &Jwt,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<JwtVerifier> {
    let mut fail = |key: &[&str], what: String, remedy: &str| {
        let path = [&["authenticators", name, "jwt"], key].concat();
        problems.push(BuildProblem::new(&path, what, remedy));
    };
    let keys = match &jwt.keys {
        JwtKeys::Secret(secret) => Keys::Secret(Box::new(DecodingKey::from_secret(
            secret.expose_secret().as_bytes(),
        ))),
        JwtKeys::SecretFile(file) => {
            match Source::open("jwt_secret", name, vec![file.clone()], shared_secret) {
                Ok(source) => Keys::SecretFile(source),
                Err(why) => {
                    fail(&["secret"], why, "check the path and what is in the file");
                    return None;
                }
            }
        }
        JwtKeys::Url(uri, every) => {
            let place = Place::Url {
                uri: uri.clone(),
                fetcher: Box::default(),
                every: *every,
            };
            Keys::Set(KeySet::new(name, place, metrics.clone()))
        }
        JwtKeys::File(file) => {
            // A URL may be away for a while; a file that is wrong is a mistake.
            let place = file.display().to_string();
            let read = move |contents: &[Vec<u8>]| {
                KeySet::parse(&contents[0]).map_err(|why| format!("{place}: {why}"))
            };
            match Source::open("jwks", name, vec![file.clone()], read) {
                Ok(source) => Keys::Set(KeySet::new(name, Place::File(source), metrics.clone())),
                Err(why) => {
                    let remedy = "name a file with `{\"keys\": [...]}` (RFC 7517)";
                    fail(&["jwks", "file"], why, remedy);
                    return None;
                }
            }
        }
    };
    Some(JwtVerifier {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        algorithms: jwt.algorithms.clone(),
        keys,
        user_claim: jwt.user_claim.clone(),
        groups_claim: jwt.groups_claim.clone(),
        leeway: jwt.leeway,
    })
}

fn shared_secret(contents: &[Vec<u8>]) -> Result<DecodingKey, String> {
    let secret = contents[0].strip_suffix(b"\n").unwrap_or(&contents[0]);
    long_enough(secret.len())?;
    Ok(DecodingKey::from_secret(secret))
}
