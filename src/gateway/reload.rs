//! Asking for a reload: whoever wants one says so here, and the engine answers.

use tokio::sync::{mpsc, oneshot};

use crate::config::Problems;

/// What a reload came to.
#[derive(Debug)]
pub enum Verdict {
    /// The configuration with this hash is in force.
    InForce(String),
    /// Nothing has changed, and why.
    Refused(Problems),
}

impl Verdict {
    /// Returns why nothing has changed, in words.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Verdict::InForce(_) => None,
            Verdict::Refused(problems) => Some(problems.render()),
        }
    }
}

/// A wish.
#[derive(Debug)]
pub struct Order {
    /// Also if clusters go away that have live batches.
    pub force: bool,
    /// Where to tell the verdict.
    pub reply: oneshot::Sender<Verdict>,
}

/// The way to the engine.
#[derive(Debug)]
pub struct Reloads {
    orders: mpsc::Sender<Order>,
    taken: std::sync::Mutex<Option<mpsc::Receiver<Order>>>,
}

impl Default for Reloads {
    fn default() -> Self {
        let (orders, taken) = mpsc::channel(4);
        Reloads {
            orders,
            taken: std::sync::Mutex::new(Some(taken)),
        }
    }
}

impl Reloads {
    /// Asks for a reload and waits for the verdict; `None` if nobody is there to carry it out.
    pub async fn ask(&self, force: bool) -> Option<Verdict> {
        let (reply, verdict) = oneshot::channel();
        self.orders.send(Order { force, reply }).await.ok()?;
        verdict.await.ok()
    }

    /// Takes the engine's end, which there is once.
    pub fn take(&self) -> Option<mpsc::Receiver<Order>> {
        let mut taken = self
            .taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.take()
    }
}
