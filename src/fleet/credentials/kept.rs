//! A secret that is read again when its file changes: Kubernetes and sidecars rotate them in place.
//!
//! `live` does the reading, once a second; a file that is empty, gone or holds nonsense changes
//! nothing, for whoever writes it may be half-way. Here it is also looked at once more when a
//! cluster has refused what was in it.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use super::credential::Stamp;
use crate::config::BuildProblem;
use crate::config::checked::Secret;
use crate::live::{Living, Seen, Source};

#[derive(Debug)]
pub(super) enum Kept {
    /// From the environment, which does not change.
    Fixed(SecretString),
    /// From a file.
    File(Arc<Source<SecretString>>),
}

impl Kept {
    /// Opens a secret; `path` is where its key stands. Only texts that fit come into use.
    pub(super) fn open(
        secret: &Secret,
        path: &[&str],
        fits: fn(&str) -> bool,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Kept> {
        let Some(file) = &secret.file else {
            return Some(Kept::Fixed(secret.text.clone()));
        };
        let cluster = path.get(1).copied().unwrap_or_default();
        match open(cluster, file.clone(), fits) {
            Ok(source) => Some(Kept::File(source)),
            Err(why) => {
                let remedy = "check the path and what is in the file";
                problems.push(BuildProblem::new(path, why, remedy));
                None
            }
        }
    }

    /// Returns the secret in force, and which one it is.
    pub(super) fn current(&self) -> (SecretString, Stamp) {
        match self {
            Kept::Fixed(text) => (text.clone(), Stamp::default()),
            Kept::File(source) => {
                // The number first: with a newer text it only makes one look twice.
                let stamp = Stamp(source.version());
                (SecretString::clone(&source.get()), stamp)
            }
        }
    }

    /// Looks at the file now: a cluster has refused the secret in force.
    pub(super) fn look(&self) {
        if let Kept::File(source) = self
            && source.look() == Seen::Changed
        {
            tracing::info!(
                kind = source.kind(),
                name = source.name(),
                "a file has changed and is in use: the cluster refused what was in it before"
            );
        }
    }

    /// Returns what is read again when it changes.
    pub(super) fn living(&self) -> Option<Arc<dyn Living>> {
        match self {
            Kept::Fixed(_) => None,
            Kept::File(source) => Some(source.clone()),
        }
    }
}

fn open(
    cluster: &str,
    file: PathBuf,
    fits: fn(&str) -> bool,
) -> Result<Arc<Source<SecretString>>, String> {
    let place = file.display().to_string();
    let read = move |contents: &[Vec<u8>]| {
        read(&contents[0], fits).map_err(|why| format!("{place}: {why}"))
    };
    Source::open("credential", cluster, vec![file], read)
}

fn read(content: &[u8], fits: fn(&str) -> bool) -> Result<SecretString, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "it is no text")?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    if !fits(text) {
        return Err("it holds what no header can carry");
    }
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn text(kept: &Kept) -> (String, u64) {
        let (text, stamp) = kept.current();
        (text.expose_secret().to_owned(), stamp.0)
    }

    #[test]
    fn what_can_not_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "first\n").expect("is writable");
        let secret = Secret {
            text: SecretString::from("first"),
            file: Some(file.clone()),
        };
        let (path, fits) = (["clusters", "a"], |text: &str| !text.contains(' '));
        let kept = Kept::open(&secret, &path, fits, &mut Vec::new()).expect("opens");
        for content in [&b""[..], b"\n", b" \n", b"\xff\xfe", b"two words"] {
            std::fs::write(&file, content).expect("is writable");
            kept.look();
            assert_eq!(text(&kept), ("first".into(), 0), "{content:?}");
        }
        std::fs::remove_file(&file).expect("is there");
        kept.look();
        assert_eq!(text(&kept), ("first".into(), 0));
        // Swapped as Kubernetes does: another file behind the same name.
        std::fs::write(folder.path().join("new"), "second").expect("is writable");
        std::fs::rename(folder.path().join("new"), &file).expect("renames");
        kept.look();
        assert_eq!(text(&kept), ("second".into(), 1));
        assert!(!format!("{kept:?}").contains("second"));
    }

    #[test]
    fn a_reason_never_quotes_the_file() {
        for content in [&b"two words"[..], b"\xffsecret"] {
            let why = read(content, |_| false).expect_err("is no secret");
            assert!(!why.contains("words") && !why.contains("secret"));
        }
    }
}
