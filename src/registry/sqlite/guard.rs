//! What stands beside a database file: the lock of its one writer, the highest id that was ever
//! given, and whether the file is still the one that was opened.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// How many ids may be given before the mark is forced to the disk; a loss of power can take back
/// at most so many.
const SYNC_EVERY: i64 = 64;

/// The companions of a database file.
#[derive(Debug)]
pub(in crate::registry) struct Guard {
    path: PathBuf,
    /// Held for as long as the database is open; the operating system lets go of it when the
    /// process ends, however it does.
    _lock: File,
    /// The same for the database itself, which may have a second name in another folder.
    _inode: Option<File>,
    marks: File,
    marked_in: Option<(u64, u64)>,
    opened: Option<(u64, u64)>,
    /// The log of what is newer than the database file, as it was opened.
    log: Option<(u64, u64)>,
    highest: i64,
    /// An id that was given and could not be noted.
    unmarked: Option<i64>,
}

impl Guard {
    /// Takes the lock and reads the mark. The database must not be open yet.
    pub(in crate::registry) fn take(path: &Path) -> Result<Guard, String> {
        // By whatever name it is opened: what stands beside a file stands beside the file itself.
        let path = &real_path(path)?;
        let mut lock = open(&beside(path, "lock"))?;
        if lock.try_lock().is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            return Err(in_use(holder.trim()));
        }
        let holder = format!("process {} on {}\n", std::process::id(), host());
        // The content is for people; the lock is what counts.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| lock.write_all(holder.as_bytes()));
        let mut marks = open(&beside(path, "ids"))?;
        let mut text = String::new();
        marks
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        let highest = match text.trim() {
            "" => 0,
            digits => digits.parse().map_err(|_| {
                format!(
                    "{} holds no number: which ids were given is not known",
                    beside(path, "ids").display()
                )
            })?,
        };
        let marked_in = identity(&beside(path, "ids"));
        Ok(Guard {
            path: path.to_owned(),
            _lock: lock,
            _inode: None,
            marks,
            marked_in,
            opened: None,
            log: None,
            highest,
            unmarked: None,
        })
    }

    /// Notes which file was opened, and that its ids do not begin again.
    pub(in crate::registry) fn opened(&mut self, highest_id: i64) -> Result<(), String> {
        self.opened = identity(&self.path);
        let inode = open(&self.path)?;
        if inode.try_lock().is_err() {
            return Err(in_use("under another name of the file"));
        }
        self._inode = Some(inode);
        if highest_id < self.highest {
            return Err(format!(
                "ids up to {} were given to clients, and this database knows only {highest_id}: it is new or an old copy, and would give ids a \
                 second time. Restore the database; or, if nobody will ask for the old ids again, delete {}",
                self.highest,
                beside(&self.path, "ids").display()
            ));
        }
        self.mark(highest_id);
        self.check()
    }

    /// Tells whether the file is still the one that was opened, and whether every id that was given
    /// is noted.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.find_marks()?;
        if let Some(id) = self.unmarked.take() {
            self.mark(id);
        }
        if self.unmarked.is_some() {
            return Err(format!(
                "the highest id can't be noted in {}",
                beside(&self.path, "ids").display()
            ));
        }
        match (self.opened, identity(&self.path)) {
            (Some(opened), Some(now)) if opened == now => self.check_log(),
            (_, None) => Err(format!(
                "{} is gone; restore it and restart the gateway",
                self.path.display()
            )),
            _ => Err(format!(
                "{} was replaced by another file; restart the gateway",
                self.path.display()
            )),
        }
    }

    /// Tells whether the log beside the database is still the one that is written: what goes to a
    /// file without a name is lost with this process.
    fn check_log(&mut self) -> Result<(), String> {
        let mut path = self.path.as_os_str().to_owned();
        path.push("-wal");
        let now = identity(Path::new(&path));
        if self.log.is_none() {
            self.log = now;
        }
        if self.log == now {
            return Ok(());
        }
        Err(format!(
            "{} is gone or was replaced; what is in the database now is all that is left: restart the gateway",
            Path::new(&path).display()
        ))
    }

    /// Tells whether the database still knows every id that was given.
    pub(super) fn goes_on(&self, highest_id: i64) -> Result<(), String> {
        if highest_id >= self.highest {
            return Ok(());
        }
        Err(format!(
            "ids up to {} were given, and {} knows only {highest_id}: an old copy was written over it; restore it and restart the gateway",
            self.highest,
            self.path.display()
        ))
    }

    /// Makes the file with the highest id anew if somebody took it away: what is written to a file
    /// without a name is lost.
    fn find_marks(&mut self) -> Result<(), String> {
        let path = beside(&self.path, "ids");
        if self.marked_in.is_some() && self.marked_in == identity(&path) {
            return Ok(());
        }
        self.marks = open(&path)?;
        self.marked_in = identity(&path);
        self.unmarked = self.unmarked.max(Some(self.highest));
        Ok(())
    }

    /// Notes that an id was given.
    pub(in crate::registry) fn mark(&mut self, id: i64) {
        if id < self.highest {
            return;
        }
        // Digits at a fixed width: a mark is overwritten in place, never half.
        let written = self.marks.write_all_at(format!("{id:>19}\n").as_bytes(), 0);
        if written.is_err() {
            tracing::error!(
                ?written,
                "the highest id could not be noted beside the database; no more are given"
            );
            self.unmarked = Some(id);
            return;
        }
        if id / SYNC_EVERY != self.highest / SYNC_EVERY {
            let _ = self.marks.sync_data();
        }
        self.highest = id;
    }
}

/// How many links may lead to a file: as many as Linux follows.
const MOST_LINKS: usize = 40;

/// Returns the file itself, whatever links lead to it, also while it is not there: SQLite would
/// make it there, and what was noted beside it is looked for there.
fn real_path(path: &Path) -> Result<PathBuf, String> {
    let mut file = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&file) else {
            break;
        };
        file = folder_of(&file).join(target);
    }
    if let Ok(real) = std::fs::canonicalize(&file) {
        return Ok(real);
    }
    let name = file.file_name().unwrap_or_default();
    match std::fs::canonicalize(folder_of(&file)) {
        Ok(folder) => Ok(folder.join(name)),
        Err(_) if file == path => Ok(file),
        Err(error) => Err(format!(
            "{} is a link to {}, whose folder can't be opened ({error}): mount or restore it; or, if a new registry is wanted, remove the link",
            path.display(),
            file.display()
        )),
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn in_use(by: &str) -> String {
    format!(
        "another gateway is using it ({by}); one file has one writer: stop the other one, or give this one a file of its own"
    )
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn open(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}
