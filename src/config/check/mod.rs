//! From what was written to what it means: durations, sizes, addresses, URLs, references, secrets.
//!
//! Every function reads one part and reports into the same list; a value that is wrong is replaced
//! by its default and the rest goes on, so that one run shows every mistake. The result is only
//! used when the list stayed empty.

mod authenticators;
mod clusters;
mod credentials;
mod routes;
mod server;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use livy_dialect::{Flavor, Settings};
use secrecy::SecretString;

use super::checked::*;
use super::glob::Glob;
use super::hidden;
use super::path::{Step, show};
use super::problem::Problem;
use super::raw::*;
use super::shape::nearest;
use super::tree::{Kind, Node};

/// The paths of every flavor, so that a client of any of them moves by changing its host name.
pub const BASE_PATHS: [&str; 6] = [
    "/",
    "/livy",
    "/livy/v1",
    "/gateway/{topology}/livy/v1",
    "/gateway/{topology}/livy",
    "/v3/analytics_engines/{instance}/livy",
];

/// Checks everything.
pub(crate) fn check(
    raw: RawConfig,
    root: &Node,
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> Config {
    let mut c = Checker {
        root,
        folder,
        problems,
        path: Vec::new(),
        inline: raw.allow_inline_secrets.unwrap_or(false),
    };
    let authenticators = c.within("authenticators", |c| {
        c.authenticators(raw.authenticators.unwrap_or_default())
    });
    let clusters = c.within("clusters", |c| c.clusters(raw.clusters.unwrap_or_default()));
    c.passthrough_needs_tokens(&clusters, &authenticators);
    let server = c.within("server", |c| c.server(raw.server.unwrap_or_default()));
    let admin = c.within("admin", |c| c.admin(raw.admin.unwrap_or_default()));
    c.listeners_go_together(&server.listen, admin.listen);
    let registry = raw.registry.clone().unwrap_or_default();
    let registry = c.within("registry", |c| c.registry(registry));
    c.passthrough_needs_numbers(&registry, &clusters);
    Config {
        server,
        admin,
        admins: Admins {
            users: raw.admin_users.unwrap_or_default(),
            groups: raw.admin_groups.unwrap_or_default(),
        },
        visible_to_all: raw.visibility == Some(RawVisibility::All),
        routes: c.within("routes", |c| c.routes(raw.routes.unwrap_or_default())),
        retain: c.within("registry", |c| {
            c.duration(
                "retain",
                raw.registry.as_ref().and_then(|r| r.retain.clone()),
                Duration::from_secs(30 * 86_400),
            )
        }),
        registry,
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
        let Some(DurationText(text)) = text else {
            return default;
        };
        match parse_duration(&text) {
            Some(duration) => duration,
            None => {
                self.within(key, |c| {
                    c.report(
                        format!("{text:?} is no duration"),
                        "write a number and a unit: `500ms`, `30s`, `10m`, `24h`, `30d`",
                    )
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
            self.within(key, |c| {
                c.report(
                    "must be more than zero",
                    format!("leave it out for the default, {default:?}"),
                )
            });
            return default;
        }
        duration
    }

    fn size(&mut self, key: &str, text: Option<SizeText>, default: usize) -> usize {
        let Some(SizeText(text)) = text else {
            return default;
        };
        let size = text
            .parse::<bytesize::ByteSize>()
            .ok()
            .filter(|_| text.ends_with('B'));
        match size
            .and_then(|size| usize::try_from(size.as_u64()).ok())
            .filter(|size| *size > 0)
        {
            Some(size) => size,
            None => {
                self.within(key, |c| {
                    c.report(
                        format!("{text:?} is no size"),
                        "write a number and a unit: `64KiB`, `8MiB`",
                    )
                });
                default
            }
        }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn secret(&mut self, key: &str, raw: Option<RawSecret>) -> SecretString {
        let Some(raw) = raw else {
            return SecretString::default();
        };
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

    /// Reads a secret that is read again when its file changes.
    fn kept_secret(&mut self, key: &str, raw: Option<RawSecret>) -> Secret {
        let file = match &raw {
            Some(RawSecret::Reference(SecretReference {
                file: Some(path),
                env: None,
            })) => Some(self.file(path)),
            _ => None,
        };
        let given = raw.is_some();
        let known = self.problems.len();
        let text = self.secret(key, raw);
        let is_empty = secrecy::ExposeSecret::expose_secret(&text)
            .trim()
            .is_empty();
        if given && is_empty && self.problems.len() == known {
            self.within(key, |c| {
                c.report("the secret is empty", "put it where this key says it is")
            });
        }
        Secret { text, file }
    }

    /// Reads the URL of something that is told secrets, or believed.
    fn guarded_url(&mut self, text: &str, why: &str) -> Option<http::Uri> {
        let uri: Option<http::Uri> = text.parse().ok();
        let uri = uri.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        });
        let Some(uri) = uri else {
            self.report(
                format!("{} is no URL", hidden::quoted(text)),
                "write `https://host/path`, and no login in it",
            );
            return None;
        };
        let loopback = uri
            .host()
            .is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host));
        if uri.scheme_str() != Some("https") && !loopback {
            self.report(why, "use https");
        }
        Some(uri)
    }

    /// Tells the definition at the current path from others.
    fn definition(&self) -> Definition {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        if let Some(node) = self.node() {
            node.digest(&mut |bytes| context.update(bytes));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Definition(hash)
    }

    /// Makes a pattern; what was meant as a regular expression would silently fit nothing.
    fn glob(&mut self, pattern: String) -> Glob {
        let is_for_names = self.path.iter().any(|step| {
            let names = ["users", "groups", "queue", "names"];
            matches!(step, Step::Key(key) if names.contains(&key.as_str()))
        });
        if let Some(why) = Glob::looks_like_regex(&pattern, is_for_names) {
            let what = format!("{pattern:?} looks like a regular expression: {why}");
            self.report(
                what,
                "write a glob: `*` stands for any text, `?` for one character",
            );
        }
        Glob::new(pattern)
    }

    fn globs(&mut self, key: &str, patterns: Vec<String>) -> Vec<Glob> {
        let glob = |pattern| self.within(key, |c| c.glob(pattern));
        patterns.into_iter().map(glob).collect()
    }

    fn positive(&mut self, key: &str, value: Option<u32>, default: u32) -> u32 {
        if value == Some(0) {
            self.within(key, |c| {
                c.report(
                    "must be 1 or more",
                    format!("leave it out for the default, {default}"),
                )
            });
        }
        value.filter(|n| *n > 0).unwrap_or(default)
    }

    /// Returns the node at the current path, if the path is made of keys that are there.
    fn node(&self) -> Option<&Node> {
        let mut node = self.root;
        for step in &self.path {
            let (Step::Key(key), Kind::Map(entries)) = (step, &node.kind) else {
                return None;
            };
            node = &entries.iter().find(|entry| entry.key == *key)?.value;
        }
        Some(node)
    }

    /// Returns the keys of the mapping at the current path, in the order of the file.
    fn keys_in_file(&self) -> Vec<String> {
        match self.node().map(|node| &node.kind) {
            Some(Kind::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the names written under a top-level key: what is there but broken was reported where
    /// it stands.
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
}

/// Tells whether a name can stand in a path, a header and a metric label.
fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Tells whether a shared secret is long enough: as long as the hash, or longer (RFC 7518 section
/// 3.2).
///
/// # Errors
/// It is not, in a sentence.
pub(crate) fn long_enough(length: usize) -> Result<(), String> {
    if length < 32 {
        return Err(format!("{length} bytes are too few for HS256"));
    }
    Ok(())
}

/// Reads `500ms`, `30s`, `10m`, `24h`, `30d` and sums of them (`1h30m`).
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) || text.contains(['-', '+', ' ']) {
        return None;
    }
    let span: jiff::Span = text.parse().ok()?;
    let signed = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()?;
    signed.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(
            parse_duration("30d"),
            Some(Duration::from_secs(30 * 86_400))
        );
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for wrong in ["30", "", "fast", "-5s", "5 s", "5x"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }
}
