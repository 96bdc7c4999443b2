//! One run: a seed becomes clusters, weather, restarts, jumps of the clock, lives of the gateway
//! and clients; then comes a calm, and the books are compared.

use std::time::Duration;

use livy_dialect::Flavor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::all::number;
use crate::client::{Client, Kind, Outcome, Record, Records, USERS, check_list};
use crate::cluster::create_foreign;
use crate::house::{House, Running, moment, until};
use crate::hunter::Hunt;
use crate::judge;
use crate::life::Cut;
use crate::wire::{HOLDS, SETTLE};
use crate::world::{Cluster, Story, Weather, World};
use testkit::chance::Chance;

/// For how long nothing can be trusted.
const CHAOS: Duration = Duration::from_secs(300);
/// How long the calm may take until nothing is open any more.
const CALM: Duration = Duration::from_secs(1500);

/// What a run brought.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// The kinds of its clusters, and how the route takes what is unclear.
    pub(crate) scene: String,
    pub(crate) broken: Vec<String>,
    pub(crate) counts: std::collections::BTreeMap<&'static str, u64>,
    /// Two runs with one digest went the same way, step by step; 0 if the story is untold.
    pub(crate) digest: u64,
}

/// What is drawn before anything happens.
pub(crate) struct Scene {
    /// Name and flavor.
    pub(crate) clusters: Vec<(&'static str, Flavor)>,
    pub(crate) ambiguous: &'static str,
    pub(crate) late_jobs: &'static str,
    /// Whether a cluster that restarts may say for a while that it knows nothing.
    pub(crate) blind: bool,
    /// Whether the gateway may be away for longer than a cluster remembers.
    pub(crate) long: bool,
    /// The gateway lives for seconds only, over and over, in fine weather: what is open must become
    /// clear all the same.
    pub(crate) hasty: bool,
    /// The wall clock jumps forth and back all the time.
    pub(crate) restless: bool,
    /// How many gateways there are at a time.
    pub(crate) replicas: usize,
}

impl Scene {
    fn draw(chance: &mut Chance, replicas: &mut Chance) -> Scene {
        let flavors = [Flavor::Livy, Flavor::Livy, Flavor::Kyuubi, Flavor::Ibm];
        let mut clusters = vec![("a", *chance.pick(&flavors))];
        if chance.percent(40) {
            clusters.push(("b", *chance.pick(&flavors)));
        }
        let hasty = chance.percent(6);
        let blind = chance.percent(25) && !hasty;
        Scene {
            clusters,
            hasty,
            ambiguous: chance.pick::<&str>(&[
                "resolve", "resolve", "resolve", "resolve", "error", "failover",
            ]),
            late_jobs: if chance.percent(15) { "adopt" } else { "kill" },
            blind,
            restless: chance.percent(if blind { 40 } else { 10 }) && !hasty,
            long: chance.percent(12) && !hasty,
            // `REPLICAS=0`: two in every fourth scene.
            replicas: match (number("REPLICAS"), replicas.percent(25)) {
                (Some(0), true) | (Some(2), _) if !hasty => 2,
                _ => 1,
            },
        }
    }

    fn describe(&self) -> String {
        let flavors: Vec<&str> = self
            .clusters
            .iter()
            .map(|(_, flavor)| flavor.as_str())
            .collect();
        format!(
            "{}, {}, late: {}, blind: {}, long: {}, hasty: {}, restless: {}, replicas: {}",
            flavors.join("+"),
            self.ambiguous,
            self.late_jobs,
            self.blind,
            self.long,
            self.hasty,
            self.restless,
            self.replicas
        )
    }

    /// Whether some cluster of the run gives nothing back by which a submission could be told.
    pub(crate) fn has_ibm(&self) -> bool {
        self.clusters
            .iter()
            .any(|(_, flavor)| *flavor == Flavor::Ibm)
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, story: Story) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(live(seed, story))
}

async fn live(seed: u64, story: Story) -> Report {
    let world = World::new(seed, story);
    let mut chance = world.chance("scene");
    let scene = Scene::draw(&mut chance, &mut world.chance("replicas"));
    world.tell(|| format!("seed {seed}: {}", scene.describe()));
    let house = settle(&world, &scene, &mut chance);
    let mut tasks = JoinSet::new();
    for (name, flavor) in &scene.clusters {
        if !scene.hasty {
            tasks.spawn(restarts(world.clone(), name, *flavor, scene.blind));
        }
        tasks.spawn(strangers(world.clone(), name));
    }
    if !scene.hasty {
        tasks.spawn(jumps(house.clone(), scene.restless));
    }
    tasks.spawn(onlooker(house.clone()));
    let records = Records::default();
    let mut clients = clients(&house, &scene, &records, &mut chance);
    lives(&house, &scene).await;
    let quiet = calm(&house, &scene, &mut clients).await;
    let written: Vec<Record> = records.all().clone();
    judge::judge(&house, &scene, &written, quiet).await;
    tasks.shutdown().await;
    let books = world.books();
    Report {
        seed,
        scene: scene.describe(),
        broken: books.broken.clone(),
        counts: books.counts.clone(),
        digest: world.digest.load(std::sync::atomic::Ordering::Relaxed),
    }
}

/// Builds the clusters, their weather, and the house in front of them.
fn settle(world: &World, scene: &Scene, chance: &mut Chance) -> House {
    let (mut yaml, mut targets) = (String::new(), Vec::new());
    for (at, (name, flavor)) in scene.clusters.iter().enumerate() {
        let extra = if *flavor == Flavor::Ibm {
            ", instance_id: i, credentials: {bearer: {token: t}}"
        } else {
            ""
        };
        let (holds, settle) = (HOLDS.as_secs(), SETTLE.as_secs());
        yaml.push_str(&format!(
            "  {name}: {{flavor: {flavor}, url: \"http://{name}.example:80\"{extra}, timeouts: {{connect: 2s, response: 6s, create_batch: {holds}s}}, \
             settle: {settle}s, health: {{interval: 10s, timeout: 3s, unhealthy_after: 3, healthy_after: 2}}, watch: 20s}}\n"
        ));
        targets.push(format!("{{cluster: {name}, tier: {}}}", at + 1));
        let base = match flavor {
            Flavor::Kyuubi => "/api/v1",
            Flavor::Ibm => "/v3/analytics_engines/i/livy",
            _ => "",
        };
        let cluster = Cluster {
            flavor: *flavor,
            base: base.to_owned(),
            next: if *flavor == Flavor::Ibm { 1 } else { 0 },
            down_until: world.began,
            blind_until: world.began,
            epoch: 0,
            retain: Duration::from_secs(if *flavor == Flavor::Livy {
                600
            } else {
                3 * 24 * 3600
            }),
            applications: chance.percent(30),
            own_account: world.chance(&format!("account/{name}")).percent(10),
            late_fronts: scene.restless,
            weather: if scene.hasty {
                Vec::new()
            } else {
                weather(world, name)
            },
        };
        world.books().clusters.insert((*name).to_owned(), cluster);
    }
    let routes = format!(
        "  - {{name: default, ambiguous: {}, late_jobs: {}, targets: [{}]}}\n",
        scene.ambiguous,
        scene.late_jobs,
        targets.join(", ")
    );
    House::new(world, &yaml, &routes, chance.percent(40), scene.replicas)
}

fn weather(world: &World, cluster: &str) -> Vec<(Instant, Weather)> {
    let mut chance = world.chance(&format!("weather/{cluster}"));
    let kinds = [
        Weather::Fine,
        Weather::Fine,
        Weather::Windy,
        Weather::Windy,
        Weather::Storm,
        Weather::Dark,
    ];
    let (mut list, mut at) = (Vec::new(), Duration::ZERO);
    while at < CHAOS {
        let kind = *chance.pick(&kinds);
        list.push((moment(world, at), kind));
        at += Duration::from_secs(if kind == Weather::Dark {
            chance.within(5..60)
        } else {
            chance.within(10..120)
        });
    }
    list.push((moment(world, CHAOS), Weather::Fine));
    list
}

async fn restarts(world: World, name: &'static str, flavor: Flavor, blind: bool) {
    let mut chance = world.chance(&format!("restarts/{name}"));
    let count = if chance.percent(50) && !blind {
        0
    } else {
        chance.within(1..4)
    };
    // Some Livys recover, some don't; the others keep their jobs elsewhere.
    let recovers = flavor != Flavor::Livy || chance.percent(if blind { 80 } else { 50 });
    for _ in 0..count {
        sleep(Duration::from_millis(chance.within(20_000..180_000))).await;
        if world.began.elapsed() > CHAOS {
            return;
        }
        let down = Duration::from_millis(chance.within(7000..40_000));
        let unknowing = Duration::from_millis(if blind && recovers && flavor == Flavor::Livy {
            chance.within(5000..25_000)
        } else {
            0
        });
        world.restart(name, recovers, down, unknowing);
    }
}

/// Names that clients and strangers share.
/// One of them can be asked for by the list alone.
const SHARED: [&str; 2] = ["nightly", "the etl"];

/// Jobs that are created directly on the cluster.
async fn strangers(world: World, name: &'static str) {
    let mut chance = world.chance(&format!("strangers/{name}"));
    for _ in 0..chance.within(0..8) {
        sleep(Duration::from_millis(chance.within(1000..120_000))).await;
        if world.began.elapsed() > CHAOS {
            return;
        }
        let job = match chance.within(0..4) {
            0 => None,
            1 => Some((*chance.pick(&SHARED)).to_owned()),
            // A name that some client has thought of for itself.
            2 => Some(format!("job-{}", chance.within(0..10))),
            _ => Some(format!("foreign-{}", chance.within(0..1000))),
        };
        let user = [Some("ann"), Some("bob"), Some("eve"), None]
            [usize::try_from(chance.within(0..4)).unwrap_or(0)];
        create_foreign(&world, name, job, user.map(str::to_owned));
    }
}

async fn jumps(house: House, often: bool) {
    let mut chance = house.world.chance("jumps");
    if often {
        // Forth and back, so that every span of some seconds has its jump.
        loop {
            sleep(Duration::from_millis(chance.within(3000..20_000))).await;
            house.jump(100_000);
            sleep(Duration::from_millis(chance.within(3000..20_000))).await;
            house.jump(-100_000);
        }
    }
    if chance.percent(60) {
        return;
    }
    for _ in 0..chance.within(1..3) {
        sleep(Duration::from_millis(chance.within(5000..200_000))).await;
        let far = [60_000, 700_000, 3_600_000, 40 * 24 * 3_600_000];
        let by = *chance.pick(&far);
        house.jump(if chance.percent(50) { by } else { -by });
    }
}

/// An administrator who lists now and then: so foreign batches get their ids.
async fn onlooker(house: House) {
    let mut chance = house.world.chance("onlooker");
    loop {
        sleep(Duration::from_millis(chance.within(5000..60_000))).await;
        if let Ok(heard) = house
            .ask(
                "root",
                "GET",
                "/batches?size=1000",
                None,
                None,
                Duration::from_secs(60),
            )
            .await
        {
            let sessions = heard
                .body
                .get("sessions")
                .and_then(serde_json::Value::as_array)
                .cloned()
                .unwrap_or_default();
            check_list(&house.world, "root", &sessions);
        }
    }
}

fn clients(house: &House, scene: &Scene, records: &Records, chance: &mut Chance) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let kinds = [
        Kind::Plain,
        Kind::Plain,
        Kind::Keyed,
        Kind::Keyed,
        Kind::Named,
        Kind::SharedName,
        Kind::KeyedAndNamed,
    ];
    let count = u32::try_from(chance.within(2..10)).unwrap_or(2);
    for tag in 0..count {
        let mut chance = house.world.chance(&format!("client/{tag}"));
        let kind = *chance.pick(&kinds);
        let name = match kind {
            Kind::Plain | Kind::Keyed => None,
            Kind::Named | Kind::KeyedAndNamed => Some(format!("job-{tag}")),
            Kind::SharedName => Some((*chance.pick(&SHARED)).to_owned()),
        };
        // Somebody at another terminal is after it, by its name.
        let hunted = matches!(kind, Kind::Named | Kind::KeyedAndNamed)
            && house.world.chance(&format!("hunted/{tag}")).percent(25);
        let name = name.map(|name| {
            if hunted {
                format!("hunted-{tag}")
            } else {
                name
            }
        });
        let record = Record {
            tag,
            user: chance.pick::<&str>(&USERS),
            kind,
            name,
            outcome: Outcome::Refused,
            unheard: false,
            id: None,
            told: Vec::new(),
            kill_asked: None,
            kill_confirmed: None,
        };
        let prefix = if chance.percent(20) {
            format!("/clusters/{}", scene.clusters[scene.clusters.len() - 1].0)
        } else {
            String::new()
        };
        let until = moment(&house.world, CHAOS + CALM);
        clients.spawn(
            Client {
                house: house.clone(),
                records: records.clone(),
                record,
                chance,
                prefix,
                until,
                hunt: hunted.then(Hunt::default),
            }
            .live(),
        );
    }
    clients
}

/// The lives of all replicas, until the calm.
async fn lives(house: &House, scene: &Scene) {
    if scene.replicas > 1 {
        tokio::join!(biased; lives_of(house, scene, 0), lives_of(house, scene, 1));
    } else {
        lives_of(house, scene, 0).await;
    }
    if scene.hasty {
        judge::none_is_open_for_long(house, scene).await;
    }
    for which in 0..scene.replicas {
        house.start(which, i64::MAX).await;
    }
    house.world.tell(|| "calm".to_owned());
}

/// The lives of a gateway, one after the other.
async fn lives_of(house: &House, scene: &Scene, which: usize) {
    let world = &house.world;
    let (whose, who) = match which {
        0 => ("lives".to_owned(), "the gateway".to_owned()),
        other => (format!("lives/{other}"), format!("gateway {other}")),
    };
    let mut chance = world.chance(&whose);
    let mut troubles = world.chance(&format!("troubles/{which}"));
    let crashes = chance.percent(80);
    while world.began.elapsed() < CHAOS {
        // By number, so that every step between two writes or sends has its turn; or by time.
        let by_number = crashes && !scene.hasty && chance.percent(50);
        let gates = if by_number {
            i64::try_from(chance.within(2..400)).unwrap_or(100)
        } else {
            i64::MAX
        };
        let lasts = if scene.hasty {
            Duration::from_millis(chance.within(15_000..25_000))
        } else if crashes {
            Duration::from_millis(chance.within(2000..150_000))
        } else {
            CHAOS
        };
        let running = house.start(which, gates).await;
        world.tell(|| format!("{who} starts"));
        let planned = !scene.hasty && chance.percent(30);
        let end = (Instant::now() + lasts).min(moment(world, CHAOS));
        tokio::select! {
            biased;
            () = running.life.ended() => {}
            () = tokio::time::sleep_until(end) => {
                if planned {
                    world.tell(|| format!("{who} is stopped"));
                    house.stop(&running, Duration::from_secs(chance.within(1..15))).await;
                }
            }
            () = troubled(house, &running, &mut troubles, &who) => {}
        }
        running.life.end();
        house.close_door(which);
        world.tell(|| format!("{who} is gone"));
        let away = if scene.hasty {
            500
        } else if scene.long && chance.percent(30) {
            chance.within(500_000..800_000)
        } else {
            chance.within(200..30_000)
        };
        sleep(Duration::from_millis(away)).await;
    }
}

/// One of two gateways stands still now and then, or can't reach the database, for so long that the
/// other one takes it for dead; then it goes on with what it had in memory.
async fn troubled(house: &House, running: &Running, chance: &mut Chance, who: &str) {
    if house.replicas() == 1 {
        return std::future::pending().await;
    }
    loop {
        sleep(Duration::from_millis(chance.within(2000..60_000))).await;
        let lasts = if chance.percent(60) {
            chance.within(6000..15_000)
        } else {
            chance.within(300..6000)
        };
        let lasts = Duration::from_millis(lasts);
        if chance.percent(50) {
            house
                .world
                .tell(|| format!("{who} stands still for {lasts:?}"));
            running.life.stand_still(lasts);
        } else {
            let answered_after = Duration::from_secs(*chance.pick(&[0, 5]));
            house.world.tell(|| {
                format!(
                    "{who} can't reach the database for {lasts:?}, told after {answered_after:?}"
                )
            });
            let until = Instant::now() + lasts;
            running.life.cut_off(Cut {
                until,
                answered_after,
            });
        }
        sleep(lasts).await;
    }
}

/// Waits until nothing is open: clients have left, jobs have ended, nothing is to be resolved or
/// killed. Returns whether it came to that.
async fn calm(house: &House, scene: &Scene, clients: &mut JoinSet<()>) -> bool {
    let world = &house.world;
    until(world, CHAOS).await;
    let end = Instant::now() + CALM;
    while Instant::now() < end {
        sleep(Duration::from_secs(7)).await;
        while let Some(left) = clients.try_join_next() {
            if let Err(error) = left {
                world.broken(format!("a client met a bug of the simulation: {error}"));
            }
        }
        let now = Instant::now();
        let alive = world.books().jobs.iter().any(|job| job.is_alive(now));
        if clients.is_empty() && !alive && judge::open(house, scene).await == 0 {
            // What has just ended is asked for once more.
            sleep(Duration::from_secs(90)).await;
            return true;
        }
    }
    false
}
