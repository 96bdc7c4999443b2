//! Who balances load: asks each gateway whether it is ready, and sends new connections to those that
//! are.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::keeper::Keeper;
use testkit::{PATIENCE, Request, exchange};

/// How often each is asked.
const EVERY: Duration = Duration::from_millis(500);

pub(crate) struct Balancer {
    behind: Vec<Endpoint>,
    turn: AtomicUsize,
}

struct Endpoint {
    address: SocketAddr,
    admin: SocketAddr,
    is_ready: AtomicBool,
}

impl Balancer {
    pub(crate) fn new(gateways: &[Keeper]) -> Balancer {
        let endpoint = |gateway: &Keeper| Endpoint {
            address: gateway.address,
            admin: gateway.admin,
            is_ready: AtomicBool::new(false),
        };
        Balancer {
            behind: gateways.iter().map(endpoint).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks them until the run is over.
    pub(crate) fn look(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            for one in &self.behind {
                one.is_ready.store(is_ready(one.admin), Ordering::Relaxed);
            }
            // The pace of the probes.
            std::thread::sleep(EVERY);
        }
    }

    /// Waits until each of them was found ready since now.
    pub(crate) fn until_all_are_ready(&self) {
        for one in &self.behind {
            one.is_ready.store(false, Ordering::Relaxed);
        }
        let until = Instant::now() + PATIENCE;
        while !self
            .behind
            .iter()
            .all(|one| one.is_ready.load(Ordering::Relaxed))
        {
            assert!(Instant::now() < until, "the gateways are not ready");
            std::thread::yield_now();
        }
    }

    /// Opens a connection to the next one that is ready.
    pub(crate) fn connect(&self) -> std::io::Result<TcpStream> {
        let count = self.behind.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (first..first + count).map(|at| &self.behind[at % count]);
        let ready = in_turn.find(|one| one.is_ready.load(Ordering::Relaxed));
        let nobody = || std::io::Error::other("no gateway is ready");
        let stream = TcpStream::connect(ready.ok_or_else(nobody)?.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    TcpStream::connect(admin).is_ok_and(|stream| {
        let reply = exchange(stream, &Request::get("/readyz").to_bytes());
        reply.status == 200
    })
}
