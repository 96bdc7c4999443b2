//! File descriptors: how many there may be, and what to do when none is left.
//!
//! Every connection is one. Where they have run out `accept` fails, and the connection stays in the
//! kernel's queue, neither served nor sent away, a probe like any other. So a listener keeps a
//! spare one, which it gives up for a moment to take one connection more.

use std::fs::File;

/// What the gateway itself needs besides its clients' connections: the admin listener's, the
/// database's files, the log, key sets, and a connection or a few to each cluster.
const OWN: u64 = 200;

/// `EMFILE` and `ENFILE`: none left to this process, none left in the system. The numbers are the
/// same on every Unix.
const NONE_LEFT: [i32; 2] = [24, 23];

/// A descriptor that is held for the moment in which there is no other.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Self {
        let mut spare = Spare(None);
        spare.regain();
        spare
    }

    /// Gives it up; tells whether there was one.
    pub(super) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes one again if it was given up and there is one to be had.
    pub(super) fn regain(&mut self) {
        if self.0.is_none() {
            self.0 = open();
        }
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Tells whether there is one more to be had at this moment.
pub(super) fn one_left() -> bool {
    open().is_some()
}

/// Tells whether something failed because no descriptor was left.
pub(super) fn were_missing(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| NONE_LEFT.contains(&number))
}

/// Says so where the process may not open as many files as its configuration lets clients connect.
pub fn warn_of_few(connections: usize) {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(soft_limit) = soft_limit(&limits)
        && soft_limit < connections.saturating_add(OWN)
    {
        tracing::warn!(
            soft_limit,
            connections,
            "the limit of open files is too low for server.limits.connections and {OWN} of the gateway's own: raise it (`ulimit -n`, \
             `LimitNOFILE=` of systemd) or lower server.limits.connections; connections beyond it are closed unserved"
        );
    }
}

/// Reads the soft limit of open files from `/proc/self/limits`; `None` where it is unlimited or
/// there is no such file.
fn soft_limit(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             63704                63704                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit(&text.replace("1024", "unlimited")), None);
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn a_spare_is_given_up_once() {
        let mut spare = Spare::new();
        assert!(spare.give_up() && !spare.give_up());
        spare.regain();
        assert!(spare.give_up() && one_left());
    }
}
