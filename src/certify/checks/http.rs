//! HTTP: methods, paths, headers; and what holds for every answer of the run.

use http::Method;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::Value;

use super::batches::{Batches, need};
use crate::certify::catalogue::Profile;
use crate::certify::endpoint::{Answer, Ask};
use crate::certify::miss::{Miss, Outcome, ensure};
use crate::certify::suite::{Suite, id_of};

pub(super) async fn requests(suite: &Suite, batches: &Batches) {
    let gateway = suite.profile == Profile::Gateway;
    suite.check("http.version", version(suite)).await;
    suite
        .check("http.head", async {
            let answer = suite
                .endpoint
                .send(Ask::new(Method::HEAD, "/batches"))
                .await?;
            answer.status(200)?.empty()
        })
        .await;
    suite
        .check("http.slash", async {
            is_list(&*suite.endpoint.get("/batches/").await?)
        })
        .await;
    suite
        .check("http.double_slash", async {
            let answer = suite.endpoint.get("//batches").await?;
            if gateway {
                is_list(&answer)
            } else {
                answer.status(404).map(|_| ())
            }
        })
        .await;
    suite
        .check("http.item_slash", async {
            let made = need(&batches.ok)?;
            let answer = suite
                .endpoint
                .get(&format!("/batches/{}/", made.id))
                .await?;
            if !gateway {
                return answer.status(404)?.empty();
            }
            answer.status(200)?;
            ensure(id_of(&answer) == Some(made.id), || {
                format!("{}; wanted batch {}", answer.line(), made.id)
            })
        })
        .await;
    suite
        .check("http.unknown_path", async {
            let made = need(&batches.ok)?;
            let answer = suite
                .endpoint
                .get(&format!("/batches/{}/nothing", made.id))
                .await?;
            if gateway {
                answer.says(404, "")
            } else {
                answer.status(404)?.empty()
            }
        })
        .await;
    suite
        .check("http.wrong_method", async {
            let made = need(&batches.ok)?;
            let ask = Ask::new(Method::PUT, format!("/batches/{}", made.id))
                .text("application/json", "{}");
            let answer = suite.endpoint.send(ask).await?;
            let allow = answer.status(405)?.header("allow").unwrap_or_default();
            let named = ["GET", "DELETE"]
                .into_iter()
                .all(|method| allow.split(',').any(|one| one.trim() == method));
            ensure(named, || {
                format!(
                    "{} with Allow {allow:?}; wanted GET and DELETE in it",
                    answer.line()
                )
            })?;
            if gateway {
                answer.says(405, "")
            } else {
                answer.empty()
            }
        })
        .await;
    suite
        .check("http.method_override", async {
            let made = need(&batches.ok)?;
            let ask = Ask::new(Method::POST, format!("/batches/{}", made.id));
            let ask = ask.header(
                HeaderName::from_static("x-http-method-override"),
                HeaderValue::from_static("GET"),
            );
            let answer = suite.endpoint.send(ask).await?;
            answer.status(if gateway { 405 } else { 200 }).map(|_| ())
        })
        .await;
    suite
        .check("http.odd_get", async {
            let ask = Ask::new(Method::GET, "/batches?size=1")
                .text("application/json", r#"{"from": 0, "size": 1}"#);
            is_list(
                &*suite
                    .endpoint
                    .send(ask.header(ACCEPT, HeaderValue::from_static("text/html, */*")))
                    .await?,
            )
        })
        .await;
    suite
        .check("http.sessions", async {
            let answer = suite.endpoint.get("/sessions").await?;
            answer.says(404, "")?;
            ensure(answer.json()?["code"] == "sessions_not_supported", || {
                format!("{}; wanted the code sessions_not_supported", answer.line())
            })
        })
        .await;
}

fn is_list(answer: &Answer) -> Outcome {
    let body = answer.status(200)?.object()?;
    ensure(body.contains_key("sessions"), || {
        format!("{}; wanted a list", answer.line())
    })
}

async fn version(suite: &Suite) -> Outcome {
    let answer = suite.endpoint.get("/version").await?;
    let body = answer.status(200)?.object()?;
    let lost = ["url", "branch", "revision", "version", "date", "user"]
        .into_iter()
        .find(|key| !body.get(*key).is_some_and(Value::is_string));
    lost.map_or(Ok(()), |key| {
        Err(answer.miss(format!("a text under {key:?}")))
    })
}

/// Judges every answer of the run.
pub(super) async fn answers(suite: &Suite) {
    let all = suite.endpoint.seen();
    let first = |fault: &dyn Fn(&Answer) -> Option<String>| {
        all.iter()
            .find_map(|answer| {
                Some(Miss::failed(format!(
                    "{}; {}",
                    answer.line(),
                    fault(answer)?
                )))
            })
            .map_or(Ok(()), Err)
    };
    let json = first(&|answer| {
        let kind = answer.header("content-type").unwrap_or("(none)");
        let judged = answer.status < 300 && !answer.body.is_empty();
        (judged && !kind.starts_with("application/json"))
            .then(|| format!("its Content-Type is {kind}, wanted application/json"))
    });
    suite.check("http.json", async { json }).await;
    let redirect = first(&|answer| {
        (300..400)
            .contains(&answer.status)
            .then(|| "wanted no redirect".to_owned())
    });
    suite.check("http.no_redirect", async { redirect }).await;
    let cookie = first(&|answer| {
        answer
            .header("set-cookie")
            .map(|_| "it sets a cookie".to_owned())
    });
    suite.check("http.no_cookie", async { cookie }).await;
    let request_id = first(&|answer| {
        answer
            .header("x-request-id")
            .is_none()
            .then(|| "wanted an X-Request-Id".to_owned())
    });
    suite.check("http.request_id", async { request_id }).await;
    let errors = first(&|answer| {
        if answer.status < 400 || answer.method == Method::HEAD {
            None
        } else {
            error_fault(suite.profile, answer)
        }
    });
    suite.check("http.errors", async { errors }).await;
}

fn error_fault(profile: Profile, answer: &Answer) -> Option<String> {
    let is_json = answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    let body = serde_json::from_slice::<Value>(&answer.body).ok();
    if profile == Profile::ApacheLivy {
        // What Jetty and a front server write is HTML, or JSON of their own: not Livy's to answer
        // for.
        let livys = match &body {
            Some(Value::Object(map)) => {
                map.is_empty()
                    || map.get("msg").is_some_and(Value::is_string)
                    || map.contains_key("servlet")
            }
            Some(Value::String(_)) => true,
            Some(_) => false,
            None => answer.body.is_empty(),
        };
        return (is_json && answer.with_login && !livys)
            .then(|| "wanted {\"msg\": …}, a bare string or no body".to_owned());
    }
    let Some(Value::Object(map)) = body.filter(|_| is_json) else {
        return Some("wanted a JSON object".to_owned());
    };
    let text = |key: &str| {
        map.get(key)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    if !(text("msg")
        && text("code")
        && text("requestId")
        && map.get("retryable").is_some_and(Value::is_boolean))
    {
        return Some("wanted msg, code, retryable and requestId".to_owned());
    }
    (map["requestId"].as_str() != answer.header("x-request-id"))
        .then(|| "requestId is not X-Request-Id".to_owned())
}
