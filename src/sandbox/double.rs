//! A simulated cluster: its jobs and its knobs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use livy_dialect::Flavor;

use super::job::Jobs;
use super::knobs::{Control, Restart};
use super::told::HungUp;

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct Double {
    pub(super) flavor: Flavor,
    pub(super) jobs: Mutex<Jobs>,
    pub(super) control: Control,
}

impl Double {
    pub(super) fn new(flavor: Flavor) -> Self {
        Double {
            flavor,
            jobs: Mutex::new(Jobs::new(flavor)),
            control: Control::default(),
        }
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn restart(&self, how: &Restart) {
        self.jobs().restart(how);
    }

    /// A restart cuts every connection: no request lives through one.
    pub(super) fn is_still(&self, generation: u32) -> Result<(), HungUp> {
        if self.jobs().generation() == Some(generation) {
            Ok(())
        } else {
            Err(HungUp)
        }
    }
}
