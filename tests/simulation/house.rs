//! The gateway as whoever operates it sees it: one life after the other over the same disk, ended
//! by SIGKILL between any two steps, or as planned. In some scenes there are two of it at a time, its
//! replicas, and each request goes to either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::{EncodingKey, Header};
use livy_gateway::config::{self, Config};
use livy_gateway::engine::background;
use livy_gateway::engine::build::build;
use livy_gateway::fleet::Upstream;
use livy_gateway::gateway::Gateway;
use livy_gateway::observe::metrics::Metrics;
use livy_gateway::registry::{Registry, SqliteStore};
use livy_gateway::walk;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::disk::Disk;
use crate::life::Life;
use crate::shared::{Seat, Shared};
use crate::wire::Wire;
use crate::world::World;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The wall clock at the beginning of every run.
pub(crate) const BEGINNING_MS: i64 = 1_800_000_000_000;

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) life: Life,
}

/// An answer as a client reads it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Heard {
    pub(crate) fn code(&self) -> &str {
        self.body
            .get("code")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Option<i64> {
        self.body.get("id").and_then(Value::as_i64)
    }
}

/// Why a client heard nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// Nobody listens.
    Away,
    /// The connection broke, or the client's own time was up.
    Cut,
}

/// How long it may take until one replica shows what the other one was told.
const TOLD: Duration = Duration::from_secs(2);

/// Where the gateway lives.
#[derive(Clone, Debug)]
pub(crate) struct House {
    pub(crate) world: World,
    config: Config,
    pub(crate) disk: Arc<SqliteStore>,
    slow: bool,
    metrics: Arc<Metrics>,
    /// Who answers: one, or one of two replicas.
    doors: Arc<Vec<watch::Sender<Option<Arc<Running>>>>>,
    /// What replicas have in common, if there are several.
    shared: Option<Arc<Shared>>,
    /// Until when one of them may not hear what the other one does.
    apart_until: Arc<Mutex<Instant>>,
    /// How far the wall clock has jumped.
    jumped_ms: Arc<AtomicI64>,
}

/// Makes a caller's token.
fn token(user: &str) -> String {
    let claims =
        json!({"iss": "simulation", "aud": "gateway", "sub": user, "exp": 4_000_000_000_u64});
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .expect("a token can be made")
}

impl House {
    pub(crate) fn new(
        world: &World,
        clusters: &str,
        routes: &str,
        slow: bool,
        replicas: usize,
    ) -> House {
        let text = format!(
            "server:\n  listen: 127.0.0.1:0\n  plaintext: true\nallow_inline_secrets: true\n\
             authenticators:\n  all: {{jwt: {{issuer: simulation, audiences: [gateway], secret: \"{SECRET}\"}}}}\n\
             admin_users: [root]\nregistry: {{memory: {{}}}}\nclusters:\n{clusters}routes:\n{routes}"
        );
        let loaded = config::parse("simulation.yaml", text, std::path::Path::new("."));
        let config = loaded
            .unwrap_or_else(|problems| panic!("{}", problems.render()))
            .config;
        House {
            world: world.clone(),
            config,
            disk: Arc::new(SqliteStore::in_memory().expect("memory")),
            slow,
            metrics: Arc::new(Metrics::new()),
            doors: Arc::new((0..replicas).map(|_| watch::Sender::new(None)).collect()),
            shared: (replicas > 1).then(|| Arc::new(Shared::new(world))),
            apart_until: Arc::new(Mutex::new(world.began)),
            jumped_ms: Arc::default(),
        }
    }

    /// Starts a life of a replica that is cut off after so many gates.
    pub(crate) async fn start(&self, which: usize, gates: i64) -> Arc<Running> {
        let life = Life::new(gates, &self.apart_until);
        let seat = self.shared.as_ref().map(|shared| {
            let mut chance = self.world.next_chance(&format!("process/{which}"));
            Arc::new(Seat::new(shared, format!("{which}-{:016x}", chance.draw())))
        });
        let disk = Disk {
            inner: self.disk.clone(),
            life: life.clone(),
            world: self.world.clone(),
            slow: self.slow,
            seat: seat.clone(),
        };
        let started = async {
            let registry = Registry::open(Arc::new(disk)).await.expect("opens");
            let nothing = &Value::Null;
            let built = build(self.config.clone(), nothing, None, &self.metrics).expect("builds");
            let mut snapshot = built.into_snapshot(None, &self.metrics);
            for (name, upstream) in &mut snapshot.upstreams {
                let wire = Wire {
                    world: self.world.clone(),
                    cluster: name.clone(),
                    life: life.clone(),
                    seat: seat.clone().map(|seat| (seat, self.disk.clone())),
                };
                let over = Upstream::over(
                    Box::new(wire),
                    Arc::default(),
                    upstream.config.clone(),
                    self.metrics.clone(),
                );
                *upstream = Arc::new(over);
            }
            let gateway = Gateway::new(snapshot, registry, self.metrics.clone());
            let seed = self.world.next_chance("the gateway's own").draw();
            gateway.random.seed(seed);
            self.set_clock(&gateway);
            background::start(&gateway);
            for upstream in gateway.snapshot.load().upstreams.values() {
                background::look_after(&gateway, upstream, &gateway.stop);
            }
            gateway
        };
        let gateway = tokio::select! {
            biased;
            gateway = started => gateway,
            // It died before it served anybody: so be it, the next life comes.
            () = life.ended() => return Box::pin(self.start(which, i64::MAX)).await,
        };
        let running = Arc::new(Running { gateway, life });
        self.doors[which].send_replace(Some(running.clone()));
        running
    }

    /// Nobody is served by a replica any more.
    pub(crate) fn close_door(&self, which: usize) {
        self.doors[which].send_replace(None);
    }

    fn running(&self, which: usize) -> Option<Arc<Running>> {
        let running = self.doors[which].borrow().clone();
        running.filter(|running| !running.life.is_over())
    }

    pub(crate) fn replicas(&self) -> usize {
        self.doors.len()
    }

    /// Who balances the load sends a request to either, and to the other one while that is down. By
    /// what is asked, so that it is the same one whatever others do.
    fn balanced(&self, what: impl FnOnce() -> String) -> Option<Arc<Running>> {
        let count = self.replicas();
        let first = if count > 1 {
            let mut chance = self.world.next_chance(&format!("door/{}", what()));
            usize::try_from(chance.within(0..1000)).unwrap_or(0) % count
        } else {
            0
        };
        (0..count).find_map(|at| self.running((first + at) % count))
    }

    /// Tells whether a replica may not show yet what the other one knew at a moment.
    pub(crate) fn may_be_behind(&self, since: Instant) -> bool {
        let apart = *self
            .apart_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.replicas() > 1 && Instant::now() < since.max(apart) + TOLD
    }

    /// Ends a life as planned.
    pub(crate) async fn stop(&self, running: &Running, drain: Duration) {
        let gateway = &running.gateway;
        gateway.drain();
        gateway.take_no_more();
        let rest = async {
            sleep(drain).await;
            gateway.hurry.cancel();
            sleep(Duration::from_secs(2)).await;
            gateway.stop.cancel();
            gateway.tasks.close();
            let _ = tokio::time::timeout(Duration::from_secs(5), gateway.tasks.wait()).await;
            gateway.registry.close().await;
        };
        tokio::select! {
            biased;
            () = rest => {}
            () = running.life.ended() => {}
        }
        running.life.end();
    }

    /// Makes the wall clock jump.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.world
            .tell(|| format!("the wall clock jumps by {} s", by_ms / 1000));
        self.jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
        for running in (0..self.replicas()).filter_map(|which| self.running(which)) {
            self.set_clock(&running.gateway);
        }
    }

    /// The wall clock goes with the simulated time, not with that of the machine.
    fn set_clock(&self, gateway: &Gateway) {
        let clock = gateway.registry.clock();
        let passed = livy_gateway::clock::millis(self.world.began.elapsed());
        clock.simulate(BEGINNING_MS + passed);
        clock.set_skew_ms(self.jumped_ms.load(Ordering::Relaxed));
    }

    /// Asks the gateway something, as a client does.
    pub(crate) async fn ask(
        &self,
        user: &str,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Heard, Unheard> {
        let what = || {
            let arguments = body.map(|body| body["args"].to_string());
            format!("{user} {method} {path} {}", arguments.unwrap_or_default())
        };
        let Some(running) = self.balanced(what) else {
            return Err(Unheard::Away);
        };
        self.ask_at(&running, (user, method, path), key, body, patience)
            .await
    }

    /// Asks one replica.
    pub(crate) async fn ask_one(&self, which: usize, user: &str, path: &str) -> Option<Heard> {
        let running = self.running(which)?;
        let patience = Duration::from_secs(60);
        let heard = self.ask_at(&running, (user, "GET", path), None, None, patience);
        heard.await.ok()
    }

    async fn ask_at(
        &self,
        running: &Arc<Running>,
        (user, method, path): (&str, &str, &str),
        key: Option<&str>,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Heard, Unheard> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", token(user)))
            // Pauses are spread by it.
            .header("x-request-id", self.world.next_request_id());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Full::new(Bytes::from(body.to_string()))
            }
            None => Full::default(),
        };
        let request = request.body(body).expect("a request can be made");
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let (life, gateway) = (running.life.clone(), running.gateway.clone());
        let answered = tokio::spawn(async move {
            life.go_on().await;
            let response = walk::serve(gateway, peer, request).await;
            life.go_on().await;
            response
        });
        let abort = answered.abort_handle();
        let response = tokio::select! {
            biased;
            () = running.life.ended() => Err(Unheard::Cut),
            answered = answered => answered.map_err(|error| {
                self.world.broken(format!("{method} {path} panicked: {error}"));
                Unheard::Cut
            }),
            () = tokio::time::sleep(patience) => Err(Unheard::Cut),
        };
        // Whoever hangs up drops the walk of the request, as the listener does.
        abort.abort();
        let (parts, body) = response?.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let heard = Heard {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        };
        if heard.status < 300 {
            let listed = heard.body.get("sessions").and_then(Value::as_array);
            let all = listed.into_iter().flatten().chain([&heard.body]);
            let ids = all.filter_map(|one| one.get("id").and_then(Value::as_i64));
            self.world.books().shown.extend(ids);
        }
        let same = format!(
            "{user} {method} {path} -> {} {}",
            heard.status,
            heard.code()
        );
        self.world.tell_answer(&same, || short(&heard.body));
        Ok(heard)
    }
}

fn short(body: &Value) -> String {
    match body.get("state").and_then(Value::as_str) {
        Some(state) => format!("{} {state}", body["id"]),
        None => body.to_string().chars().take(160).collect(),
    }
}

/// Waits for a moment of the run.
pub(crate) async fn until(world: &World, at: Duration) {
    tokio::time::sleep_until(world.began + at).await;
}

/// Returns the moment of the run.
pub(crate) fn moment(world: &World, at: Duration) -> Instant {
    world.began + at
}
