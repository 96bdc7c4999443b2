//! What of the file is shown to nobody: secrets, also those that stand in the wrong place, are of
//! the wrong type, or are in a file that can't be read.
//!
//! Problems are written to the log, to `POST /reload` and to `check`'s output, with the line that
//! they are about. So whatever stands at or below a key that holds secrets is hidden, unless it is
//! known to be something else; and so is a login in a URL, wherever that stands.

use super::path::Step;
use super::problem::{Hidden, Place};

/// Keys that hold a secret, or what leads to one.
const SECRET_KEYS: [&str; 6] = [
    "credentials",
    "password",
    "token",
    "secret",
    "apikey",
    "client_secret",
];

/// The kinds of `credentials`: known words, so that a problem may name them.
const KINDS: [&str; 6] = [
    "basic",
    "bearer",
    "ibm_iam",
    "oauth2",
    "kerberos",
    "passthrough",
];

/// Keys below those whose values are no secrets.
const OPEN_KEYS: [&str; 12] = [
    "file",
    "env",
    "username",
    "url",
    "token_url",
    "client_id",
    "client_auth",
    "scope",
    "ca_file",
    "principal",
    "keytab",
    "spn",
];

/// Tells whether what stands at a path may be a secret.
pub(super) fn may_be_secret(path: &[Step]) -> bool {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    if keys == ["registry", "postgres", "url"] {
        return true;
    }
    // The second key of these is a name that somebody chose.
    let is_name = |at: usize| at == 1 && ["clusters", "authenticators"].contains(&keys[0]);
    let mut words = keys.iter().enumerate().filter(|(at, _)| !is_name(*at));
    let last = keys.last().copied().unwrap_or_default();
    words.any(|(_, key)| SECRET_KEYS.contains(key)) && !OPEN_KEYS.contains(&last)
}

/// Tells whether a key that nobody knows may itself be a secret: `bearer: {s3cret}`.
pub(super) fn may_be_secret_key(path: &[Step], key: &str) -> bool {
    let known = [&SECRET_KEYS[..], &KINDS, &OPEN_KEYS].concat();
    may_be_secret(path) && !known.contains(&key)
}

/// Tells whether a text is a URL with a login, or was meant as one.
pub(super) fn has_login(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.contains('@'))
}

/// Returns a text as a problem may quote it.
pub(super) fn quoted(text: &str) -> String {
    match has_login(text) {
        true => "a text that is not shown (it holds a login)".to_owned(),
        false => format!("{text:?}"),
    }
}

/// Hides what may be secrets in a part of the file that can't be read: whatever stands behind a
/// word that holds secrets, and logins in URLs.
pub(super) fn hide_by_words(text: &str, hidden: &mut Vec<Hidden>) {
    for (at, line) in text.lines().enumerate() {
        let words = SECRET_KEYS.iter().chain(&KINDS);
        let behind = words.filter_map(|word| {
            let begin = line.find(word)?;
            let rest = line[begin..].find(':')?;
            Some(begin + rest + 1)
        });
        let login = has_login(line).then(|| line.find("://")).flatten();
        let from = behind.chain(login.map(|at| at + "://".len())).min();
        if let Some(from) = from {
            let column = |bytes: usize| line[..bytes].chars().count() + 1;
            hidden.push(Hidden {
                from: Place {
                    line: at + 1,
                    column: column(from),
                },
                to: Place {
                    line: at + 1,
                    column: column(line.len()),
                },
            });
        }
    }
}

/// Masks a value for people who may see the configuration.
pub(super) fn mask(value: &mut serde_json::Value, path: &mut Vec<Step>) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(Step::Key(key.clone()));
                mask(value, path);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter_mut().enumerate() {
                path.push(Step::Index(at));
                mask(value, path);
                path.pop();
            }
        }
        Value::Null => {}
        value if may_be_secret(path) => *value = Value::from("***"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Step> {
        text.split('.')
            .map(|key| Step::Key(key.to_owned()))
            .collect()
    }

    #[test]
    fn what_holds_secrets_is_known_by_its_keys() {
        for secret in [
            "clusters.a.credentials",
            "clusters.a.credentials.bearer",
            "clusters.a.credentials.bearer.token",
            "clusters.a.credentials.basic.passwrd",
            "clusters.a.credentials.oauth2.client_secret",
            "authenticators.a.jwt.secret",
            "registry.postgres.url",
        ] {
            assert!(may_be_secret(&path(secret)), "{secret}");
        }
        for open in [
            "clusters.token.url",
            "clusters.credentials",
            "clusters.a.credentials.basic.username",
            "clusters.a.credentials.bearer.token.file",
            "clusters.a.credentials.oauth2.token_url",
            "authenticators.secret.basic.htpasswd_file",
            "registry.postgres.pool",
        ] {
            assert!(!may_be_secret(&path(open)), "{open}");
        }
    }

    #[test]
    fn a_login_in_a_url_is_not_quoted() {
        assert!(!quoted("https://u:p w@host").contains("p w"));
        assert_eq!(quoted("ftp://host"), "\"ftp://host\"");
    }
}
