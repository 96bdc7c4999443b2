//! The way to a cluster, and what a request can meet on it: it is refused, cut before or after,
//! held and delivered late though its sender is gone, answered by somebody in front before or after
//! it was passed on, sent twice by it, or never answered at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use livy_dialect::Flavor;
use livy_gateway::fleet::transport::{Carried, Transport};
use livy_gateway::fleet::{Answer, SendError};
use livy_gateway::registry::SqliteStore;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::cluster::{Asked, Submitted, answer_request};
use crate::life::{Cut, Life};
use crate::shared::Seat;
use crate::world::{Weather, World};
use testkit::chance::Chance;

/// `create_batch` and `settle` of every cluster here: how long something in between may hold a
/// submission, with and without an answer of its own.
pub(crate) const HOLDS: Duration = Duration::from_secs(30);
pub(crate) const SETTLE: Duration = Duration::from_secs(10);

/// The transport of one generation of the gateway to one cluster.
pub(crate) struct Wire {
    pub(crate) world: World,
    pub(crate) cluster: String,
    pub(crate) life: Life,
    /// Its place at the database, where another gateway goes on with what this one leaves for a
    /// while.
    pub(crate) seat: Option<(Arc<Seat>, Arc<SqliteStore>)>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

type Outcome = Result<Answer, SendError>;

/// What becomes of a request.
#[derive(Clone, Debug)]
enum Fate {
    Passed {
        there: Duration,
        back: Duration,
    },
    Refused,
    /// Sent twice by a front, which hands on what the second one was told.
    Twice {
        there: Duration,
        back: Duration,
    },
    CutBefore,
    CutAfter {
        there: Duration,
    },
    /// Held by something in between; the sender hears nothing, or sees the connection break.
    Held {
        there: Duration,
        cut: Option<Duration>,
    },
    /// Answered by a front; what it passed on arrives so long after its answer.
    Front {
        status: u16,
        json: bool,
        arrives: Option<Duration>,
    },
    Hangs,
}

impl Transport for Wire {
    fn carry(&self, request: Request<Full<Bytes>>, _fresh: bool) -> Carried<'_> {
        Box::pin(async move {
            let asked = read(&self.world, &self.cluster, request).await;
            if let (Some((seat, store)), Some(body)) = (&self.seat, &asked.body) {
                let body = Value::from(body.clone()).to_string();
                seat.must_be_its_sender(store, &body).await;
            }
            self.ambush(&asked, "before");
            self.life.gate().await;
            let creates = asked.clone();
            let (tell, told) = oneshot::channel();
            tokio::spawn(carry(
                self.world.clone(),
                self.cluster.clone(),
                self.life.clone(),
                asked,
                tell,
            ));
            let outcome = told.await;
            self.ambush(&creates, "after");
            self.life.gate().await;
            match outcome {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Wire {
    /// Where it matters most, around the sending of a submission, a gateway stands still or loses
    /// the database, mostly for so long that the other one takes it for dead.
    fn ambush(&self, asked: &Asked, moment: &str) {
        if self.seat.is_none() || asked.method != Method::POST {
            return;
        }
        let body = asked.body.as_ref().and_then(|body| body.get("args"));
        let whose = body.map(Value::to_string).unwrap_or_default();
        let what = format!("ambush/{moment}/{}/{whose}", self.cluster);
        let mut chance = self.world.next_chance(&what);
        if !chance.percent(12) {
            return;
        }
        let lasts = Duration::from_millis(chance.within(4000..15_000));
        let stands_still = chance.percent(50);
        self.world.tell(|| {
            let what = if stands_still {
                "stands still"
            } else {
                "loses the database"
            };
            format!("{moment} the sending of {whose} its gateway {what} for {lasts:?}")
        });
        if stands_still {
            self.life.stand_still(lasts);
        } else {
            let (until, answered_after) = (Instant::now() + lasts, Duration::ZERO);
            self.life.cut_off(Cut {
                until,
                answered_after,
            });
        }
    }
}

async fn read(world: &World, cluster: &str, request: Request<Full<Bytes>>) -> Asked {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let base = world
        .books()
        .clusters
        .get(cluster)
        .map(|cluster| cluster.base.clone())
        .unwrap_or_default();
    let path = parts.uri.path();
    // The API of applications lies beside the batch API.
    let path = path
        .strip_prefix(&base)
        .or_else(|| path.strip_prefix(base.strip_suffix("/livy")?))
        .unwrap_or(path);
    Asked {
        method: parts.method,
        path: path.to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).ok(),
    }
}

/// Takes a request to its fate. It lives on when its sender is gone.
async fn carry(
    world: World,
    cluster: String,
    life: Life,
    asked: Asked,
    tell: oneshot::Sender<Outcome>,
) {
    let (down, epoch, flavor, late_fronts) = match world.books().clusters.get(&cluster) {
        Some(it) => (
            it.down_until > Instant::now(),
            it.epoch,
            it.flavor,
            it.late_fronts,
        ),
        None => return,
    };
    let creates = asked.method == Method::POST;
    let subject = subject(
        &world,
        &asked,
        creates
            .then(|| {
                asked
                    .body
                    .as_ref()
                    .map(|body| Submitted::read(flavor, body))
            })
            .flatten(),
    );
    let mut chance = world.next_chance(&format!("{cluster}/{}/{subject}", asked.method));
    let mut fate = draw(world.weather(&cluster), &mut chance, creates, down);
    if late_fronts && creates && !down && chance.percent(50) {
        fate = Fate::Front {
            status: 503,
            json: false,
            arrives: Some(Duration::from_millis(chance.within(4000..9000))),
        };
    }
    world.tell(|| {
        format!(
            "{cluster} {} {} ({subject}) {fate:?}",
            asked.method, asked.path
        )
    });
    let arrive = |world: &World| {
        let books = world.books();
        let it = books.clusters.get(&cluster)?;
        let lost = it.down_until > Instant::now() || (it.epoch != epoch && !creates);
        drop(books);
        (!lost).then(|| answer_request(world, &cluster, &asked))
    };
    let maybe = |detail: &str| {
        Err(SendError::MaybeSent {
            reason: "reset",
            detail: detail.to_owned(),
        })
    };
    match fate {
        Fate::Refused => {
            sleep(Duration::from_millis(2)).await;
            let _ = tell.send(Err(SendError::NotSent {
                reason: "connect",
                detail: "refused".into(),
            }));
        }
        Fate::Passed { there, back } => {
            let enemy = world.weather(&cluster) != Weather::Fine;
            sleep(there).await;
            let answer = arrive(&world).map(|answer| {
                if enemy {
                    distorted(&world, &cluster, &asked, answer, &mut chance)
                } else {
                    answer
                }
            });
            // A list may stand still on its way, and speak of what was.
            let late = enemy && subject == "list" && chance.percent(20);
            sleep(if late {
                Duration::from_millis(chance.within(1000..5500))
            } else {
                back
            })
            .await;
            let _ = tell.send(answer.ok_or(SendError::MaybeSent {
                reason: "reset",
                detail: "restarted".into(),
            }));
        }
        Fate::Twice { there, back } => {
            sleep(there).await;
            arrive(&world);
            sleep(back).await;
            let answer = arrive(&world);
            let _ = tell.send(answer.ok_or(SendError::MaybeSent {
                reason: "reset",
                detail: "restarted".into(),
            }));
        }
        Fate::CutBefore => {
            sleep(Duration::from_millis(30)).await;
            let _ = tell.send(maybe("cut before"));
        }
        Fate::CutAfter { there } => {
            sleep(there).await;
            arrive(&world);
            let _ = tell.send(maybe("cut after"));
        }
        Fate::Held { there, cut } => {
            held(&world, &life, there, cut, tell, || drop(arrive(&world))).await
        }
        Fate::Front {
            status,
            json,
            arrives,
        } => {
            sleep(Duration::from_millis(50)).await;
            if arrives == Some(Duration::ZERO) {
                arrive(&world);
            }
            let (content_type, body) = if json {
                ("application/json", r#"{"error":"front"}"#)
            } else {
                ("text/html", "<html><title>front</title>")
            };
            let answer = Answer {
                status,
                content_type: Some(content_type.into()),
                body: Bytes::from_static(body.as_bytes()),
            };
            let _ = tell.send(Ok(answer));
            if let Some(later) = arrives.filter(|later| !later.is_zero()) {
                sleep(later).await;
                arrive(&world);
            }
        }
        Fate::Hangs => std::future::pending().await,
    }
}

/// Now and then somebody in front mixes answers up: an item is another's, a list shows a number
/// twice, or a row that can't be read; the answer to a submission names another's number, with the
/// right name or none.
fn distorted(
    world: &World,
    cluster: &str,
    asked: &Asked,
    mut answer: Answer,
    chance: &mut Chance,
) -> Answer {
    if !chance.percent(3) {
        return answer;
    }
    let books = world.books();
    let known = books.known(cluster);
    let flavor = books.clusters.get(cluster).map(|cluster| cluster.flavor);
    let Some(other) = known
        .get(usize::try_from(chance.within(0..1000)).unwrap_or(0) % known.len().max(1))
        .map(|at| books.jobs[*at].id.clone())
    else {
        return answer;
    };
    // A cluster of which nothing is known yet may be one that shows no names.
    let is_known = books.jobs.iter().filter(|job| job.tag.is_some()).count() > 3;
    drop(books);
    let segments = asked
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .count();
    let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer;
    };
    match (asked.method.as_str(), segments, flavor) {
        ("GET", 2, _) => {
            world.tell(|| format!("{cluster}: an answer is mixed up with that of {other}"));
            let path = format!("/batches/{other}");
            return answer_request(
                world,
                cluster,
                &Asked {
                    path,
                    ..asked.clone()
                },
            );
        }
        ("GET", 1, Some(Flavor::Livy)) if answer.status == 200 => {
            let Some(sessions) = body.get_mut("sessions").and_then(Value::as_array_mut) else {
                return answer;
            };
            let Some(mut first) = sessions.first().cloned() else {
                return answer;
            };
            if chance.percent(50) {
                world.tell(|| format!("{cluster}: {} can't be read in a list", first["id"]));
                sessions[0]["id"] = json!(-1);
                answer.body = Bytes::from(body.to_string());
                return answer;
            }
            world.tell(|| format!("{cluster}: a list shows {} twice", first["id"]));
            first["name"] = Value::Null;
            sessions.push(first);
        }
        ("POST", 1, Some(Flavor::Livy)) if answer.status == 201 && is_known => {
            world.tell(|| format!("{cluster}: a 201 names {other}"));
            let other = json!(other.parse::<i64>().unwrap_or(0));
            let name = body["name"].as_str().unwrap_or_default();
            if name.starts_with("livy-gateway-") && chance.percent(50) {
                body["id"] = other;
            } else {
                body = json!({"id": other, "state": "starting"});
            }
        }
        _ => return answer,
    }
    answer.body = Bytes::from(body.to_string());
    answer
}

/// Holds a request. However long that was to be, it is let go of within [`HOLDS`] after its sender
/// is gone: that is what the gateway counts on.
async fn held(
    world: &World,
    life: &Life,
    there: Duration,
    cut: Option<Duration>,
    mut tell: oneshot::Sender<Outcome>,
    arrive: impl FnOnce(),
) {
    let arrives = Instant::now() + there;
    let gone = async {
        match cut {
            Some(cut) => sleep(cut).await,
            None => tokio::select! { biased; () = tell.closed() => {}, () = life.ended() => {} },
        }
    };
    let after_all = tokio::select! {
        biased;
        () = gone => true,
        () = tokio::time::sleep_until(arrives) => false,
    };
    if !after_all {
        arrive();
        return std::future::pending().await;
    }
    if cut.is_some() {
        let _ = tell.send(Err(SendError::MaybeSent {
            reason: "reset",
            detail: "cut while held".into(),
        }));
    }
    tokio::time::sleep_until(arrives.min(Instant::now() + HOLDS.mul_f32(0.9))).await;
    world.tell(|| "what was held arrives".to_owned());
    arrive();
}

/// What a request is about, in words that are the same in every run: the submission's tag where it
/// is known, else what the path says.
fn subject(world: &World, asked: &Asked, submitted: Option<Submitted>) -> String {
    let mut books = world.books();
    if let Some(submitted) = submitted {
        if let Some(tag) = submitted.tag {
            books.keys.extend(
                submitted
                    .name
                    .into_iter()
                    .chain(submitted.key)
                    .map(|key| (key, tag)),
            );
            return format!("tag-{tag}");
        }
        return "untagged".into();
    }
    let parts: Vec<&str> = asked
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    match parts.as_slice() {
        [_, key, rest @ ..] => {
            let tag = books.keys.get(*key).map(|tag| format!("tag-{tag}"));
            // An id that nobody chose here is the same in every run; any other one is not.
            let key = tag.unwrap_or_else(|| {
                if key.len() < 12 {
                    (*key).to_owned()
                } else {
                    "unknown".into()
                }
            });
            format!("{key}{}", rest.concat())
        }
        _ => format!(
            "list{}",
            if asked.query.ends_with("size=0") {
                "-probe"
            } else {
                ""
            }
        ),
    }
}

fn draw(weather: Weather, chance: &mut Chance, creates: bool, down: bool) -> Fate {
    let millis = |chance: &mut Chance, range| Duration::from_millis(chance.within(range));
    let passed = Fate::Passed {
        there: millis(chance, 1..300),
        back: millis(chance, 1..300),
    };
    let fair = match weather {
        Weather::Fine => 98,
        Weather::Windy => 65,
        Weather::Storm => 25,
        Weather::Dark => 0,
    };
    let luck = chance.percent(if creates { fair * 2 / 3 } else { fair });
    if down {
        return Fate::Refused;
    }
    if luck {
        return passed;
    }
    if weather == Weather::Dark {
        return if chance.percent(50) {
            Fate::Refused
        } else {
            Fate::Hangs
        };
    }
    match chance.within(0..100) {
        0..=9 => Fate::Refused,
        10..=19 => Fate::CutBefore,
        20..=26 if creates => Fate::Twice {
            there: millis(chance, 1..300),
            back: millis(chance, 1..300),
        },
        20..=34 => Fate::CutAfter {
            there: millis(chance, 1..300),
        },
        35..=59 => {
            let there = millis(chance, 100..(2 * HOLDS.as_secs() - 5) * 1000);
            let cut = chance.percent(50).then(|| millis(chance, 10..8000));
            Fate::Held { there, cut }
        }
        60..=89 => front(chance, creates),
        _ => Fate::Hangs,
    }
}

fn front(chance: &mut Chance, creates: bool) -> Fate {
    let status = *chance.pick(&[503, 302, 401, 404, 200, 500, 502, 503]);
    let holds = matches!(status, 500 | 502);
    let longest = if holds { HOLDS } else { SETTLE }.mul_f32(0.9).as_millis();
    let arrives = match chance.within(0..4) {
        0 | 1 => None,
        2 => Some(Duration::ZERO),
        // A read that arrives after its answer does nothing.
        _ if !creates => None,
        _ => Some(Duration::from_millis(
            chance.within(1..u64::try_from(longest).unwrap_or(1000)),
        )),
    };
    Fate::Front {
        status,
        json: chance.percent(30) && status != 200,
        arrives,
    }
}
