//! Things outside the process that are read again when they change: certificates, password files,
//! key sets, secrets.
//!
//! A [`Source`] holds the last good value and tells what is wrong with the newest content. Who
//! reads the value takes one pointer. [`Living::look`] is called about once a second by whoever
//! runs the gateway; a look that finds the same files as before costs one `stat` for each.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use crate::config::must_be_a_file;

/// A file that was written so shortly before it was read may be written again without any mark of
/// that in its times.
const YOUNG: Duration = Duration::from_secs(2);

/// What a look brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing new.
    Same,
    /// A new value is in use.
    Changed,
    /// There is new content, and it can't be used: the last good value stays. Told once for each
    /// content.
    Broken(String),
}

/// Something that is looked at now and then.
pub trait Living: Send + Sync + Debug {
    /// Returns what it is: a word of the metric.
    fn kind(&self) -> &'static str;
    /// Returns the configured names that it belongs to.
    fn names(&self) -> Vec<String>;
    /// Reads it again if it has changed. Blocks on the disk.
    fn look(&self) -> Seen;
    /// Tells whether the newest content is in use.
    fn is_current(&self) -> bool;
}

type Read<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value that is read from one file, or from several that belong together.
pub struct Source<T> {
    kind: &'static str,
    name: String,
    files: Vec<PathBuf>,
    read: Read<T>,
    value: ArcSwap<T>,
    version: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    stamps: Vec<Option<Stamp>>,
    contents: [u8; 32],
    fault: Option<String>,
}

/// What tells a file from the one that was there before, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Of the inode: nobody can set it back, as copies that keep times do with the other one.
    changed: (i64, i64),
    is_young: bool,
}

impl Stamp {
    /// Symbolic links are followed: a ConfigMap changes by one that leads elsewhere.
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = u64::try_from(metadata.ctime()).unwrap_or(0);
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH + Duration::from_secs(changed))
            .ok();
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_young: age.is_none_or(|age| age < YOUNG),
        })
    }
}

impl<T> Debug for Source<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Reads files for the first time. `kind` is a word of the metric, `name` the configured name
    /// that they belong to; `read` gets their contents in order.
    ///
    /// # Errors
    /// Why there is no value, in a sentence.
    pub fn open(
        kind: &'static str,
        name: &str,
        files: Vec<PathBuf>,
        read: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Source<T>>, String> {
        let stamps = files.iter().map(|file| Stamp::of(file)).collect();
        let contents = contents(&files)?;
        let value = read(&contents)?;
        let last = Last {
            stamps,
            contents: hash(&contents),
            fault: None,
        };
        Ok(Arc::new(Source {
            kind,
            name: name.to_owned(),
            files,
            read: Box::new(read),
            value: ArcSwap::from_pointee(value),
            version: AtomicU64::new(0),
            last: Mutex::new(last),
        }))
    }

    /// Returns the value in use.
    pub fn get(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Returns the configured name that it was opened for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how often the value has changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl<T: Send + Sync + 'static> Living for Source<T> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn look(&self) -> Seen {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before reading: what is written meanwhile has another one next time.
        let stamps: Vec<Option<Stamp>> = self.files.iter().map(|file| Stamp::of(file)).collect();
        let settled = last.stamps.iter().flatten().all(|stamp| !stamp.is_young);
        // What could not be used may be usable now: a certificate that was not valid yet.
        if settled && stamps == last.stamps && last.fault.is_none() {
            return Seen::Same;
        }
        last.stamps = stamps;
        let read = contents(&self.files).and_then(|contents| {
            let hash = hash(&contents);
            if hash == last.contents && last.fault.is_none() {
                return Ok(None);
            }
            last.contents = hash;
            (self.read)(&contents).map(Some)
        });
        match read {
            Ok(None) => Seen::Same,
            Ok(Some(value)) => {
                last.fault = None;
                self.value.store(Arc::new(value));
                self.version.fetch_add(1, Ordering::Release);
                Seen::Changed
            }
            Err(why) if last.fault.as_ref() == Some(&why) => Seen::Same,
            Err(why) => {
                last.fault = Some(why.clone());
                Seen::Broken(why)
            }
        }
    }

    fn is_current(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.fault.is_none()
    }
}

/// Tells when a file is another one than before; for what is read again as a whole.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    last: Option<Stamp>,
    contents: [u8; 32],
}

impl Watch {
    /// Begins with what was read of it.
    pub fn new(path: &Path, text: &str) -> Watch {
        Watch {
            path: path.to_owned(),
            last: None,
            contents: hash(&[text.as_bytes().to_vec()]),
        }
    }

    /// Tells whether it has changed since the last time.
    pub fn has_changed(&mut self) -> bool {
        let now = Stamp::of(&self.path);
        let settled = self.last.as_ref().is_none_or(|stamp| !stamp.is_young);
        if settled && now == self.last {
            return false;
        }
        self.last = now;
        let contents = hash_of(&self.path);
        std::mem::replace(&mut self.contents, contents) != contents
    }
}

fn hash_of(path: &Path) -> [u8; 32] {
    contents(&[path.to_owned()]).map_or([0; 32], |contents| hash(&contents))
}

fn contents(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |file: &PathBuf| {
        must_be_a_file(file)
            .and_then(|()| std::fs::read(file))
            .map_err(|error| format!("can't read {}: {error}", file.display()))
    };
    files.iter().map(read).collect()
}

fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for content in contents {
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(&contents[0]);
        text.trim()
            .parse()
            .map_err(|_| format!("{text:?} is no number"))
    }

    #[test]
    fn the_last_good_value_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n");
        let write = |text: &str| std::fs::write(&path, text).expect("is writable");
        write("1");
        let source = Source::open("number", "n", vec![path.clone()], number).expect("is read");
        assert_eq!((source.look(), *source.get()), (Seen::Same, 1));
        write("2");
        assert_eq!((source.look(), *source.get()), (Seen::Changed, 2));
        assert_eq!(source.version(), 1);
        write("x");
        assert_eq!(source.look(), Seen::Broken("\"x\" is no number".into()));
        assert_eq!(source.look(), Seen::Same, "told once");
        assert!(!source.is_current());
        std::fs::remove_file(&path).expect("is there");
        assert!(matches!(source.look(), Seen::Broken(why) if why.contains("can't read")));
        assert_eq!(*source.get(), 2);
        write("2");
        assert_eq!((source.look(), source.is_current()), (Seen::Changed, true));
        assert!(Source::open("number", "n", vec![folder.path().join("none")], number).is_err());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        for (version, text) in [("a", "1"), ("b", "2")] {
            std::fs::create_dir(folder.path().join(version)).expect("is made");
            std::fs::write(folder.path().join(version).join("n"), text).expect("is writable");
        }
        let link = |target: &str| {
            std::os::unix::fs::symlink(target, folder.path().join("..new")).expect("is made");
            std::fs::rename(folder.path().join("..new"), folder.path().join("..data"))
                .expect("is moved");
        };
        link("a");
        let path = folder.path().join("..data").join("n");
        let source = Source::open("number", "n", vec![path.clone()], number).expect("is read");
        let mut watch = Watch::new(&path, "1");
        assert!(!watch.has_changed());
        link("b");
        assert_eq!((source.look(), *source.get()), (Seen::Changed, 2));
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        assert!(
            Watch::new(&path, "1").has_changed(),
            "it was written after it had been read"
        );
    }

    #[test]
    fn what_keeps_size_and_time_is_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n");
        let old = SystemTime::now() - Duration::from_secs(3600);
        let write = |text: &str| {
            std::fs::write(&path, text).expect("is writable");
            let file = std::fs::File::options().write(true).open(&path);
            file.and_then(|file| file.set_modified(old))
                .expect("is set");
        };
        write("1");
        let source = Source::open("number", "n", vec![path.clone()], number).expect("is read");
        write("2");
        assert_eq!((source.look(), *source.get()), (Seen::Changed, 2));
    }

    #[test]
    fn what_could_not_be_used_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n");
        std::fs::write(&path, "1").expect("is writable");
        let is_time = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let read = {
            let is_time = is_time.clone();
            move |contents: &[Vec<u8>]| match is_time.load(Ordering::Relaxed) {
                true => number(contents),
                false => Err("not yet".to_owned()),
            }
        };
        let source = Source::open("number", "n", vec![path.clone()], read).expect("is read");
        is_time.store(false, Ordering::Relaxed);
        std::fs::write(&path, "2").expect("is writable");
        assert_eq!(source.look(), Seen::Broken("not yet".into()));
        assert_eq!(source.look(), Seen::Same, "told once");
        is_time.store(true, Ordering::Relaxed);
        assert_eq!((source.look(), *source.get()), (Seen::Changed, 2));
    }

    #[test]
    fn a_pipe_holds_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("is there").success());
        let opened = Source::open("number", "n", vec![path], number);
        assert!(opened.is_err_and(|why| why.contains("not a regular file")));
    }
}
