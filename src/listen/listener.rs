//! One listening socket, and what to do when `accept` fails.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use super::descriptors::{self, Spare};

/// How long to wait after `accept` failed for another reason than descriptors, or with no spare one
/// left.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two log lines about it: a flood must not fill the log as well.
const SILENCE: Duration = Duration::from_secs(10);

/// A bound listener that is not accepting yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Its configured address: the `listener` label.
    pub(super) label: String,
    spare: Spare,
    told: Option<Instant>,
}

/// A connection that came.
pub(super) enum Arrival {
    /// One like any other.
    Usual(TcpStream, SocketAddr),
    /// One that came when no descriptor was left, and has the spare one: to be closed, or served in
    /// moments.
    Last(TcpStream, SocketAddr),
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// Why not.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Listener> {
        Ok(Listener {
            socket: TcpListener::bind(address).await?,
            label: address.to_string(),
            spare: Spare::new(),
            told: None,
        })
    }

    /// Returns the address that was really bound.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a connection; failures are logged and outlived. Cancel-safe.
    pub(super) async fn accept(&mut self) -> Arrival {
        loop {
            self.spare.regain();
            let error = match self.socket.accept().await {
                Ok((tcp, peer)) => return Arrival::Usual(tcp, peer),
                Err(error) => error,
            };
            self.tell(&error);
            if descriptors::were_missing(&error)
                && self.spare.give_up()
                && let Some((tcp, peer)) = self.accept_now().await
            {
                return Arrival::Last(tcp, peer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes a connection that is there already: whoever waited here would leave the spare
    /// descriptor to others.
    async fn accept_now(&self) -> Option<(TcpStream, SocketAddr)> {
        let polled = poll_fn(|cx| Poll::Ready(self.socket.poll_accept(cx))).await;
        match polled {
            Poll::Ready(Ok(arrived)) => Some(arrived),
            _ => None,
        }
    }

    /// Says why connections are not accepted, now and then.
    pub(super) fn tell(&mut self, error: impl std::fmt::Display) {
        if self.told.is_none_or(|at| at.elapsed() >= SILENCE) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, listener = %self.label, "a connection could not be accepted");
        }
    }
}
