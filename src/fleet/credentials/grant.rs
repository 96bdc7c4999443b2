//! One exchange of a secret for a token: the request, and what the answer means.
//!
//! Follows no redirect: whoever could make it follow one could make it hand the secret out.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::credential::bearer_value;
use super::endpoint::{Asking, Endpoint, Failure, Granted, LIMIT};
use super::kept::Kept;
use super::schedule::Kind;
use crate::config::BuildProblem;
use crate::config::checked::{ClusterTls, TokenEndpoint};
use crate::live::Living;
use crate::net::cause;
use crate::net::connect::Connector;
use crate::net::tls::{self, ClientTls};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Tokens of Entra with many groups are some 20 KiB.
const LARGEST: usize = 256 << 10;

/// How long a token is believed whose giver says nothing about that (RFC 6749 only recommends it).
const UNSAID_LIFE: Duration = Duration::from_secs(300);

/// All but RFC 3986's unreserved characters. These stay as they are: not every endpoint takes the
/// escapes out of a client's name.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Longest sentence of an endpoint that is handed on.
const LONGEST: usize = 300;

/// What is sent for a token.
pub(super) struct Form {
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) authorization: Option<HeaderValue>,
    /// What no word of the answer may repeat.
    pub(super) secrets: Vec<String>,
}

/// A kind of exchange: what is sent.
pub(super) trait Grant: Send + Sync + Debug {
    /// Its key below `credentials`; the `kind` of the metric.
    fn kind(&self) -> &'static str;
    /// Makes the form, with the secret as it is now.
    fn form(&self) -> Form;
    /// The secret.
    fn secret(&self) -> &Kept;
}

/// A token endpoint.
#[derive(Debug)]
pub(super) struct HttpEndpoint {
    grant: Box<dyn Grant>,
    url: Uri,
    tls: ClientTls,
    client: Client<Connector, Full<Bytes>>,
}

impl HttpEndpoint {
    /// Makes it for a cluster.
    pub(super) fn new(
        grant: Box<dyn Grant>,
        endpoint: &TokenEndpoint,
        cluster: &str,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Self> {
        let trust = ClusterTls {
            ca_file: endpoint.ca_file.clone(),
            ..ClusterTls::default()
        };
        let path = ["clusters", cluster, "credentials", grant.kind()];
        let tls = tls::open("credential_tls", cluster, &trust, &path, problems)?;
        let connector = Connector::new(Some(tls.clone()), CONNECT_LIMIT, Arc::default());
        let client = Client::builder(TokioExecutor::new())
            // Asked once an hour: a kept connection would be closed by then, and found so only when
            // the secret is on its way.
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(connector);
        Some(HttpEndpoint {
            grant,
            tls,
            url: endpoint.url.clone(),
            client,
        })
    }

    async fn exchange(&self) -> Result<Granted<HeaderValue>, Failure> {
        let form = self.grant.form();
        let secrets = form.secrets.clone();
        let told = tokio::time::timeout(LIMIT, self.send(form)).await;
        let told = told.unwrap_or_else(|_| {
            let words = format!("no answer within {} s (timed out)", LIMIT.as_secs());
            Err(Failure::trouble(words))
        });
        let granted = told.and_then(|answer| {
            read(&answer, unix_now()).map_err(|failure| Failure {
                words: fit_to_show(&secrets, &failure.words),
                ..failure
            })
        });
        granted.map_err(|failure| Failure {
            words: format!("token endpoint {}: {}", self.place(), failure.words),
            ..failure
        })
    }

    /// Returns the URL less its query, in which anything may stand.
    fn place(&self) -> String {
        let scheme = self.url.scheme_str().unwrap_or("https");
        let authority = self.url.authority().map_or("", |part| part.as_str());
        format!("{scheme}://{authority}{}", self.url.path())
    }

    async fn send(&self, form: Form) -> Result<Told, Failure> {
        let mut request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("livy-gateway/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(value) = form.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(Bytes::from(encode(&form.fields))))
            .map_err(|error| Failure::trouble(error.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| Failure::trouble(cause::in_words(&error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|_| Failure::trouble("its answer broke off"))?;
        let wish = parts.headers.get(RETRY_AFTER);
        Ok(Told {
            status: parts.status.as_u16(),
            wish: wish.and_then(|value| value.to_str().ok()?.trim().parse().ok()),
            body: body.to_bytes(),
        })
    }
}

impl Endpoint<HeaderValue> for HttpEndpoint {
    fn ask(&self) -> Asking<'_, HeaderValue> {
        Box::pin(self.exchange())
    }

    fn secret_version(&self) -> u64 {
        self.grant.secret().current().1.0
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        let secret = self.grant.secret().living();
        secret.into_iter().chain(self.tls.living()).collect()
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// Writes `application/x-www-form-urlencoded`.
fn encode(fields: &[(&str, String)]) -> String {
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Makes an endpoint's words such that anybody may read them: secrets are taken out while the text
/// is whole, and what still holds a part of one, spelled or broken in whatever way, is not shown.
fn fit_to_show(secrets: &[String], words: &str) -> String {
    let clean = without(secrets, words);
    if holds_a_part(secrets, &clean) {
        let status = clean.split(':').next().unwrap_or_default();
        return format!("{status}, in words that hold a secret and are not shown");
    }
    let line = clean.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    line.chars().take(LONGEST).collect()
}

/// Tells whether a text holds so long a part of a secret that it helps to guess it.
fn holds_a_part(secrets: &[String], text: &str) -> bool {
    const PART: usize = 8;
    let bare = |text: &str| -> String {
        let text = text.replace('+', " ");
        let text = percent_decode_str(&text).decode_utf8_lossy();
        let visible = text.chars().filter(|c| c.is_ascii_alphanumeric());
        visible.collect::<String>().to_ascii_lowercase()
    };
    let text = bare(text);
    secrets.iter().any(|secret| {
        let spellings = [bare(secret), bare(&STANDARD.encode(secret))];
        spellings.iter().any(|spelling| {
            let part = PART.min(spelling.len());
            // Of ASCII only, so that each byte is a letter.
            let mut parts = spelling.as_bytes().windows(part.max(1));
            part >= PART.min(secret.len())
                && parts.any(|part| text.contains(&*String::from_utf8_lossy(part)))
        })
    })
}

/// Takes secrets out of a text, however they were written into it.
fn without(secrets: &[String], text: &str) -> String {
    let mut clean = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for spelling in [secret.clone(), escaped(secret)] {
            clean = clean.replace(&spelling, "***");
        }
    }
    clean
}

/// An endpoint's answer.
#[derive(Debug)]
struct Told {
    status: u16,
    /// `Retry-After`, in seconds.
    wish: Option<u64>,
    body: Bytes,
}

/// Reads what an answer means.
fn read(told: &Told, unix_now: i64) -> Result<Granted<HeaderValue>, Failure> {
    let body: Option<Map<String, Value>> = serde_json::from_slice(&told.body).ok();
    if told.status != 200 {
        return Err(refusal(told, body.as_ref()));
    }
    let unusable = |what: &str| Err(Failure::trouble(format!("it answered 200 {what}")));
    // Knox says so when it could not make one, in words that are no JSON.
    let Some(body) = body else {
        return unusable("with something that is no JSON object");
    };
    let Some(token) = body.get("access_token").and_then(Value::as_str) else {
        return unusable("without an access_token");
    };
    let is_bearer = |kind: &str| kind.eq_ignore_ascii_case("bearer");
    if !body
        .get("token_type")
        .and_then(Value::as_str)
        .is_none_or(is_bearer)
    {
        return unusable("with a token that is no bearer token");
    }
    let Some(mut login) = bearer_value(token) else {
        return unusable("with a token that no header can carry");
    };
    login.set_sensitive(true);
    let life = life(&body, token, unix_now);
    if life.is_zero() {
        return unusable("with a token that has ended already");
    }
    Ok(Granted { login, life })
}

/// Returns how long a token lives: what its giver says, and what it says itself if that is less.
///
/// The token's own end is measured from its own beginning, where it names one: our wall clock may
/// be wrong.
fn life(body: &Map<String, Value>, token: &str, unix_now: i64) -> Duration {
    let said = body.get("expires_in").and_then(seconds);
    let claims: Map<String, Value> =
        jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap_or_default();
    let claim = |name: &str| claims.get(name).and_then(Value::as_i64);
    let own = claim("exp").map(|end| {
        let begin = match said {
            Some(_) => claim("iat").unwrap_or(unix_now),
            None => unix_now,
        };
        u64::try_from(end.saturating_sub(begin)).unwrap_or(0)
    });
    match (said, own) {
        (Some(said), Some(own)) => Duration::from_secs(said.min(own)),
        (Some(one), None) | (None, Some(one)) => Duration::from_secs(one),
        (None, None) => UNSAID_LIFE,
    }
}

/// Reads seconds; Microsoft's older endpoints write them as text.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float saturates"
        )]
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().map(|float| float as u64)),
        _ => None,
    }
}

fn refusal(told: &Told, body: Option<&Map<String, Value>>) -> Failure {
    let status = told.status;
    let kind = match status {
        408 | 425 | 429 => Kind::Trouble,
        400..=499 => Kind::Refused,
        _ => Kind::Trouble,
    };
    let words = match body.and_then(own_words) {
        Some(own) => format!("it answered {status}: {own}"),
        None if (300..400).contains(&status) => {
            format!("it answered {status}, a redirect, which is not followed")
        }
        None => format!("it answered {status}"),
    };
    Failure {
        kind,
        words,
        wish: told.wish.map(Duration::from_secs),
    }
}

/// Finds what an endpoint says about a refusal: OAuth 2.0's two fields (RFC 6749 section 5.2), or
/// IBM's.
fn own_words(body: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let parts = [
        text("error").or_else(|| text("errorCode")),
        text("error_description").or_else(|| text("errorMessage")),
    ];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    (!joined.trim().is_empty()).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_732_470_000;

    fn answer(status: u16, body: impl Into<Bytes>) -> Result<Granted<HeaderValue>, Failure> {
        let told = Told {
            status,
            wish: None,
            body: body.into(),
        };
        read(&told, NOW).map_err(|failure| Failure {
            words: fit_to_show(&[], &failure.words),
            ..failure
        })
    }

    fn life_of(body: &Value) -> u64 {
        answer(200, body.to_string())
            .expect("a token")
            .life
            .as_secs()
    }

    fn jwt(claims: &Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signs")
    }

    #[test]
    fn documented_answers_are_read() {
        let iam = json!({"access_token": "eyJ", "refresh_token": "not_supported", "token_type": "Bearer",
            "expires_in": 3600, "expiration": NOW + 3600, "scope": "ibm openid"});
        let granted = answer(200, iam.to_string()).expect("a token");
        assert_eq!(
            (granted.login.to_str().ok(), granted.life.as_secs()),
            (Some("Bearer eyJ"), 3600)
        );
        assert!(granted.login.is_sensitive() && !format!("{granted:?}").contains("eyJ"));
        assert_eq!(
            life_of(&json!({"access_token": "t", "expires_in": "86399"})),
            86_399
        );
        assert_eq!(
            life_of(&json!({"access_token": "t", "expires_in": 3599.9})),
            3599
        );
        assert_eq!(life_of(&json!({"access_token": "t"})), 300);
    }

    #[test]
    fn a_token_says_itself_when_it_ends() {
        let hour = json!({"iat": NOW - 9000, "exp": NOW - 9000 + 600});
        // The clock of this machine is two and a half hours ahead, which changes nothing.
        assert_eq!(
            life_of(&json!({"access_token": jwt(&hour), "expires_in": 3600})),
            600
        );
        assert_eq!(
            life_of(&json!({"access_token": jwt(&hour), "expires_in": 60})),
            60
        );
        assert_eq!(
            life_of(&json!({"access_token": jwt(&json!({"exp": NOW + 90}))})),
            90
        );
        let over = json!({"access_token": jwt(&json!({"exp": NOW - 1}))});
        assert!(answer(200, over.to_string()).is_err());
    }

    #[test]
    fn a_200_may_be_no_token() {
        for body in [
            r#"{ "Unable to acquire token." }"#,
            "",
            "[]",
            "{}",
            r#"{"access_token": ""}"#,
            r#"{"access_token": 7}"#,
            r#"{"access_token": "a\r\nX: y"}"#,
            r#"{"access_token": "a", "token_type": "mac"}"#,
            r#"{"access_token": "a", "expires_in": 0}"#,
            r#"{"access_token": "a", "expires_in": -5}"#,
        ] {
            let failure = answer(200, body).expect_err(body);
            assert_eq!(failure.kind, Kind::Trouble, "{body}");
            assert!(
                failure.words.starts_with("it answered 200 with"),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn refusals_are_told_from_trouble() {
        let iam = json!({"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."});
        let entra = json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"});
        for (status, body, kind, words) in [
            (
                400,
                iam.to_string(),
                Kind::Refused,
                "it answered 400: BXNIM0415E: Provided API key could not be found.",
            ),
            (
                401,
                entra.to_string(),
                Kind::Refused,
                "it answered 401: invalid_client: AADSTS7000215: Invalid client secret.",
            ),
            (404, "<html>".into(), Kind::Refused, "it answered 404"),
            (429, "{}".into(), Kind::Trouble, "it answered 429"),
            (503, String::new(), Kind::Trouble, "it answered 503"),
            (
                302,
                String::new(),
                Kind::Trouble,
                "it answered 302, a redirect, which is not followed",
            ),
        ] {
            let failure = answer(status, body).expect_err("no token");
            assert_eq!((failure.kind, failure.words.as_str()), (kind, words));
        }
    }

    #[test]
    fn no_answer_can_make_a_secret_show() {
        let secrets = ["s/cret+1".to_owned(), "aWQ6cw==".to_owned()];
        let text = "invalid s/cret+1, in the form s%2Fcret%2B1, as Basic aWQ6cw==";
        assert_eq!(
            without(&secrets, text),
            "invalid ***, in the form ***, as Basic ***"
        );
    }

    #[test]
    fn words_that_hold_a_part_of_a_secret_are_not_shown() {
        let secrets = ["correct horse+battery/staple".to_owned()];
        let base64 = STANDARD.encode("id:correct horse+battery/staple");
        for quoted in [
            "correct+horse%2bbattery%2fstaple",
            "correct horse+bat\ntery/staple",
            "correct horse+batte",
            "CORRECT HORSE+BATTERY",
            &STANDARD.encode("correct horse+battery/staple"),
        ] {
            let words = format!("it answered 401: invalid_client: you sent {quoted}");
            assert_eq!(
                fit_to_show(&secrets, &words),
                "it answered 401, in words that hold a secret and are not shown",
                "{quoted}"
            );
        }
        let pair = [secrets[0].clone(), base64.clone()];
        assert!(!fit_to_show(&pair, &format!("it answered 401: Basic {base64}")).contains(&base64));
        let long = format!("it answered 401: {}{}", "x".repeat(270), secrets[0]);
        assert!(
            fit_to_show(&secrets, &long).ends_with("x***"),
            "taken out before it is cut"
        );
        let words = "it answered 401: invalid_client: the horse is correct";
        assert_eq!(fit_to_show(&secrets, words), words);
    }

    #[test]
    fn fields_are_escaped() {
        let fields = [("scope", "https://x/.default a&b=c".to_owned())];
        assert_eq!(
            encode(&fields),
            "scope=https%3A%2F%2Fx%2F.default%20a%26b%3Dc"
        );
    }
}
