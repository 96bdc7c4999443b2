//! What goes wrong: the gateway is killed, ended and stopped; networks and fronts misbehave;
//! clusters restart; strangers have jobs there.
//!
//! One thread does it to the gateway, and one to each cluster. What they do is drawn from the seed;
//! when, depends on the threads.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::submission::{FOR_LONG, Submission, client_name};
use crate::world::{Lane, World};
use testkit::chance::Chance;
use testkit::fault_proxy::{Action, Door, MadeUp, Seen};
use testkit::keeper::Keeper;

/// How long a gateway may take to end when it is asked to.
const DRAIN: Duration = Duration::from_secs(15);
/// How long a kill waits for the moment when a submission is on its way.
const AMBUSH: Duration = Duration::from_secs(3);
/// Strangers that take the numbers of jobs that a cluster has forgotten.
const HEIRS: Range<u64> = 6..16;

/// For how long a gateway is stopped so that others take it for dead.
const FOR_DEAD: Range<u64> = 7000..9000;

/// Kills a gateway as often as was asked for, spread over the time, and stops one now and then.
pub(crate) fn on_gateway(world: &World) {
    let mut chance = Chance::of(world.wish.seed, "gateway");
    let mut kills = 0;
    while kills < world.wish.kills || world.time_over() < 1000 {
        let due = (kills + 1) * 1000 / (world.wish.kills + 1);
        if kills < world.wish.kills && world.time_over() >= u128::try_from(due).unwrap_or(0) {
            kills += 1;
            go_down(world, &mut chance, kills);
        } else if chance.percent(1) {
            let (which, gateway) = any(world, &mut chance);
            let for_dead = world.gateways.len() > 1 && chance.percent(25);
            let rest = chance.within(if for_dead { FOR_DEAD } else { 100..2500 });
            world.note(&format!("gateway {which} is stopped for {rest} ms"));
            gateway.signal("-STOP");
            std::thread::sleep(Duration::from_millis(rest));
            gateway.signal("-CONT");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn any<'a>(world: &'a World, chance: &mut Chance) -> (u64, &'a Keeper) {
    let count = u64::try_from(world.gateways.len()).unwrap_or(1);
    let which = chance.within(0..count);
    let at = usize::try_from(which).unwrap_or(0);
    (which + 1, &world.gateways[at])
}

/// Ends the database of several gateways without a word, now and then, and starts it again.
pub(crate) fn on_database(world: &World) {
    let Some(database) = &world.database else {
        return;
    };
    let mut chance = Chance::of(world.wish.seed, "database");
    let mut dues: Vec<u64> = (0..=world.wish.kills / 10)
        .map(|_| chance.within(150..850))
        .collect();
    while world.time_over() < 1000 {
        let due = |due: &u64| u128::from(*due) < world.time_over();
        if let Some(at) = dues.iter().position(due) {
            dues.remove(at);
            let rest = chance.within(100..4000);
            world.note(&format!("the gateways' database is away for {rest} ms"));
            let outage = |until| {
                let mut outage = world.outage.lock().unwrap_or_else(PoisonError::into_inner);
                *outage = Some((Instant::now(), until));
            };
            outage(None);
            database.stop();
            std::thread::sleep(Duration::from_millis(rest));
            database.start_again();
            outage(Some(Instant::now()));
            world.note("the gateways' database is back");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn go_down(world: &World, chance: &mut Chance, count: usize) {
    // Most moments are dull ones: wait until a submission is on its way.
    let until = Instant::now() + AMBUSH;
    while world.lanes.iter().all(|lane| lane.proxy.creating() == 0) && Instant::now() < until {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(chance.within(0..40)));
    let (which, gateway) = any(world, chance);
    if chance.percent(70) {
        world.note(&format!("kill {count}: SIGKILL of gateway {which}"));
        gateway.kill();
    } else {
        world.note(&format!("kill {count}: SIGTERM of gateway {which}"));
        let ended = gateway.terminate(DRAIN);
        world.note(if ended {
            "the gateway has ended"
        } else {
            "the gateway did not end, and was killed"
        });
    }
    std::thread::sleep(Duration::from_millis(chance.within(0..700)));
    gateway.start_again();
    world.note("the gateway is back");
}

/// Makes trouble on the way to a cluster and in it, until the time is over.
pub(crate) fn on_cluster(world: &World, lane: &Lane) {
    let mut chance = Chance::of(world.wish.seed, &format!("{} chaos", lane.flavor));
    let mut strangers = Strangers { count: 0 };
    // All that runs there is lost with it: not too often, and not so late that nothing runs in the
    // end.
    let mut losses: Vec<u64> = (0..=lane.total() / 200)
        .map(|_| chance.within(200..700))
        .collect();
    if lane.flavor == "ibm" {
        // A managed service does not begin to count again; what can't be told apart if it did all
        // the same is written down.
        losses.clear();
    }
    let note = |what: &str| world.note(&format!("{}: {what}", lane.flavor));
    while world.time_over() < 1000 {
        if let Some(at) = losses
            .iter()
            .position(|due| u128::from(*due) < world.time_over())
        {
            losses.remove(at);
            let away = chance.within(0..1000);
            note(&format!(
                "restarts and forgets everything; away for {away} ms"
            ));
            world
                .clusters
                .restart_with(lane.flavor, &json!({"away_ms": away}));
            std::thread::sleep(Duration::from_millis(away));
            // The numbers that batches of the gateway had are given to others.
            strangers.come(world, lane, &mut chance, HEIRS);
        }
        match chance.within(0..100) {
            0..40 => {
                let (bad, lasts) = (chance.within(20..80), chance.within(500..4000));
                note(&format!(
                    "{bad} of 100 requests meet a fault, for {lasts} ms"
                ));
                let mut own = Chance::new(chance.draw());
                lane.proxy.set(move |seen| {
                    if own.percent(bad) {
                        fault(&mut own, seen)
                    } else {
                        Action::Pass
                    }
                });
                std::thread::sleep(Duration::from_millis(lasts));
                lane.proxy.set(|_| Action::Pass);
            }
            40..52 => {
                let (door, lasts) = (
                    *chance.pick(&[Door::Closed, Door::Reset]),
                    chance.within(200..2500),
                );
                note(&format!("nobody gets through ({door:?}), for {lasts} ms"));
                lane.proxy.door(door);
                std::thread::sleep(Duration::from_millis(lasts));
                lane.proxy.door(Door::Open);
            }
            52..62 => {
                // For less than the gateway's `settle`: who says for longer that a job is not there
                // can't be believed by anybody.
                let (away, unknown, recovering) = (
                    chance.within(0..1500),
                    chance.within(0..400),
                    chance.within(0..1500),
                );
                note(&format!(
                    "restarts and recovers: away for {away} ms, then knows nothing for {unknown} ms"
                ));
                let how = json!({"recover": true, "away_ms": away, "unknown_ms": unknown, "recovering_ms": recovering});
                world.clusters.restart_with(lane.flavor, &how);
                std::thread::sleep(Duration::from_millis(away));
            }
            62..85 => strangers.come(world, lane, &mut chance, 1..3),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(chance.within(100..1500)));
    }
    lane.proxy.heal();
}

struct Strangers {
    count: usize,
}

impl Strangers {
    /// Creates jobs on the cluster itself, some of them under names of the gateway's clients.
    fn come(&mut self, world: &World, lane: &Lane, chance: &mut Chance, how_many: Range<u64>) {
        for _ in 0..chance.within(how_many) {
            self.count += 1;
            let tag = format!("foreign-{}-{}", lane.flavor, self.count);
            let runs = if chance.percent(70) {
                FOR_LONG.to_owned()
            } else {
                chance.within(1..10).to_string()
            };
            let mut body = json!({"file": lane.file, "args": [runs, "ok", tag]});
            if lane.flavor == "kyuubi" {
                body = json!({"batchType": "PYSPARK", "resource": lane.file, "args": [runs, "ok", tag], "conf": {}});
            }
            let names = names(lane);
            if chance.percent(60) && !names.is_empty() {
                body["name"] = chance.pick(&names).as_str().into();
            }
            let reply = world
                .clusters
                .direct(lane.flavor, "POST", "/batches", Some(&body));
            world.note(&format!(
                "{}: a stranger's job {tag}, name {}: {}",
                lane.flavor, body["name"], reply.status
            ));
        }
    }
}

/// Returns the names that strangers may take, so that whoever looks closely can still tell whose a
/// job is: names of submissions to come, and of batches whose application the gateway has shown. A
/// name that is on its way to the cluster could be taken by nobody's fault.
fn names(lane: &Lane) -> Vec<String> {
    let begun = lane.submissions();
    let first = begun.len() + crate::SUBMITTERS;
    let later = (first..lane.total()).map(|number| client_name(lane.flavor, number));
    let known = |submission: &&Arc<Submission>| !submission.client().applications.is_empty();
    let before = begun
        .iter()
        .filter(known)
        .filter_map(|submission| submission.name.clone());
    later.chain(before).collect()
}

/// Draws what becomes of a request that meets a fault.
fn fault(chance: &mut Chance, seen: &Seen) -> Action {
    let creates = seen.operation() == "create_batch";
    match chance.within(0..8) {
        0 => Action::CutBefore,
        1 => Action::CutAfter,
        // Longer than the gateway waits for a create, and looks for it: it arrives when nobody
        // expects it any more. Not so a short job: it could be over before anybody finds out that
        // it is late.
        2 | 3 if creates && seen.body.contains(&format!("\"{FOR_LONG}\"")) => Action::Hold {
            ms: chance.within(100..8000),
        },
        2 | 3 if creates => Action::Hold {
            ms: chance.within(100..2500),
        },
        2 => Action::Hold {
            ms: chance.within(50..1500),
        },
        3 => Action::HalfAnswer {
            passed_on: chance.percent(70),
        },
        4 => Action::Stall {
            passed_on: chance.percent(50),
        },
        _ => Action::Answer(made_up(chance)),
    }
}

/// Draws an answer of some front: none of them is in words of the cluster's own software.
fn made_up(chance: &mut Chance) -> MadeUp {
    let status =
        u16::try_from(*chance.pick(&[200, 301, 302, 401, 403, 404, 408, 429, 500, 502, 503, 504]))
            .unwrap_or(502);
    let (content_type, body) = *chance.pick(&[
        (
            "text/html",
            "<html><head><title>A front has something to say</title></head><body></body></html>",
        ),
        ("", ""),
        (
            "application/json",
            r#"{"error": "a front has something to say"}"#,
        ),
    ]);
    let location = matches!(status, 301 | 302).then(|| "/login".to_owned());
    MadeUp {
        status,
        content_type: content_type.into(),
        body: body.into(),
        location,
        passed_on: chance.percent(50),
    }
}
