//! A secret that is read again when its file changes: Kubernetes and sidecars rotate them in place.
//!
//! The file is looked at when the secret is used, at most once a second. A file that is empty, gone
//! or holds nonsense changes nothing: whoever writes it may be half-way.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::IntCounter;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::Stamp;
use crate::config::checked::Secret;
use crate::observe::metrics::Metrics;

/// The shortest time between two looks at a file.
const PAUSE: Duration = Duration::from_secs(1);

/// A file that was written this short a time ago may be written again with nothing that shows it:
/// file systems count time in steps.
const STILL_WET: Duration = Duration::from_secs(2);

/// What of a file changes when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

#[derive(Debug)]
pub(super) struct Kept {
    file: Option<PathBuf>,
    cluster: String,
    kind: &'static str,
    fits: fn(&str) -> bool,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    text: SecretString,
    stamp: u64,
    print: Option<Print>,
    looked: Instant,
    /// Why the file could not be used the last time, said once.
    trouble: Option<String>,
}

impl Kept {
    pub(super) fn new(
        secret: &Secret,
        cluster: &str,
        kind: &'static str,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let kept = Kept {
            file: secret.file.clone(),
            cluster: cluster.to_owned(),
            kind,
            fits: |_| true,
            metrics: metrics.clone(),
            state: Mutex::new(State {
                text: secret.text.clone(),
                stamp: 0,
                // Read by the configuration, a moment before: the first look compares the text.
                print: None,
                looked: Instant::now(),
                trouble: None,
            }),
        };
        if kept.file.is_some() && kept.is_counted() {
            for outcome in ["ok", "error"] {
                kept.counter(outcome);
            }
        }
        kept
    }

    /// Takes only texts that can be used.
    pub(super) fn that(mut self, fits: fn(&str) -> bool) -> Self {
        self.fits = fits;
        self
    }

    /// Returns the secret in force, and which one it is.
    pub(super) fn current(&self) -> (SecretString, Stamp) {
        let mut state = self.state();
        if state.looked.elapsed() >= PAUSE {
            self.look_at_the_file(&mut state);
        }
        (state.text.clone(), Stamp(state.stamp))
    }

    /// Looks at the file now.
    pub(super) fn look(&self) {
        self.look_at_the_file(&mut self.state());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at_the_file(&self, state: &mut State) {
        let Some(file) = &self.file else { return };
        state.looked = Instant::now();
        // Before it is read: what is written after that shows in the next print.
        let print = print_of(file);
        if print.is_some() && print == state.print {
            return;
        }
        match read(file, self.fits) {
            Ok(text) => {
                state.print = print.filter(|print| !is_wet(print));
                state.trouble = None;
                if text.expose_secret() != state.text.expose_secret() {
                    state.text = text;
                    state.stamp += 1;
                    self.count("ok");
                    tracing::info!(cluster = %self.cluster, kind = self.kind, "a secret was read again from its file");
                }
            }
            Err(why) if state.trouble.as_ref() != Some(&why) => {
                self.count("error");
                tracing::warn!(cluster = %self.cluster, kind = self.kind, file = %file.display(), %why, "a secret's file can't be used; the secret in force stays");
                state.trouble = Some(why);
            }
            Err(_) => {}
        }
    }

    /// Tells whether readings are counted: where a token is fetched, the exchanges are.
    fn is_counted(&self) -> bool {
        matches!(self.kind, "basic" | "bearer")
    }

    fn counter(&self, outcome: &str) -> IntCounter {
        self.metrics.credential_refresh_total.with_label_values(&[
            self.cluster.as_str(),
            self.kind,
            outcome,
        ])
    }

    fn count(&self, outcome: &str) {
        if self.is_counted() {
            self.counter(outcome).inc();
        }
    }
}

fn print_of(file: &Path) -> Option<Print> {
    let about = std::fs::metadata(file).ok()?;
    Some(Print {
        modified: about.modified().ok(),
        size: about.size(),
        inode: about.ino(),
    })
}

fn is_wet(print: &Print) -> bool {
    let age = print
        .modified
        .map(|at| SystemTime::now().duration_since(at));
    !matches!(age, Some(Ok(age)) if age >= STILL_WET)
}

fn read(file: &Path, fits: fn(&str) -> bool) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        // Its text would quote what is in the file.
        std::io::ErrorKind::InvalidData => "it is no text".to_owned(),
        _ => error.to_string(),
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if !fits(text) {
        return Err("it holds what no header can carry".to_owned());
    }
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(file: &Path) -> Kept {
        let secret = Secret {
            text: SecretString::from("first"),
            file: Some(file.to_owned()),
        };
        Kept::new(&secret, "a", "bearer", &Arc::new(Metrics::new()))
    }

    fn text(kept: &Kept) -> (String, u64) {
        let (text, stamp) = kept.current();
        (text.expose_secret().to_owned(), stamp.0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_a_second_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "first\n").expect("is writable");
        let kept = kept(&file);
        std::fs::write(&file, "second\n").expect("is writable");
        assert_eq!(text(&kept), ("first".into(), 0), "not yet");
        tokio::time::advance(PAUSE).await;
        assert_eq!(text(&kept), ("second".into(), 1));
        // The same length, at the same moment, in the same file.
        std::fs::write(&file, "third!\n").expect("is writable");
        kept.look();
        assert_eq!(text(&kept), ("third!".into(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let kept = kept(&file).that(|text| !text.contains(' '));
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
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", kept(Path::new("/nowhere")));
        assert!(!shown.contains("first"), "{shown}");
    }
}
