//! File descriptors: what to do when none is left.
//!
//! Every connection is one. Where they have run out `accept` fails, and the connection stays in the kernel's queue, neither served nor sent
//! away, a probe like any other. So a listener keeps a spare one, which it gives up for a moment to take one connection more.

use std::fs::File;

/// `EMFILE` and `ENFILE`: none left to this process, none left in the system. The numbers are the same on every Unix.
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
    error.raw_os_error().is_some_and(|number| NONE_LEFT.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_given_up_once() {
        let mut spare = Spare::new();
        assert!(spare.give_up() && !spare.give_up());
        spare.regain();
        assert!(spare.give_up() && one_left());
    }
}
