//! Logins: none, and a wrong one. Only where a right one was given.

use http::header::HeaderValue;

use crate::certify::endpoint::Ask;
use crate::certify::miss::ensure;
use crate::certify::suite::Suite;

/// `nobody:wrong`
const WRONG_BASIC: HeaderValue = HeaderValue::from_static("Basic bm9ib2R5Ondyb25n");
const WRONG_BEARER: HeaderValue = HeaderValue::from_static("Bearer this-is-no-token");

pub(super) async fn all(suite: &Suite) {
    if !suite.endpoint.has_login() {
        return suite
            .skip(
                &["auth.missing", "auth.wrong"],
                "no login was given: --user or --token-file",
            )
            .await;
    }
    suite
        .check("auth.missing", async {
            let answer = suite
                .endpoint
                .send(Ask::get("/batches").without_login())
                .await?;
            let challenge = answer
                .status(401)?
                .header("www-authenticate")
                .unwrap_or_default()
                .to_owned();
            ensure(!challenge.is_empty(), || {
                format!("{}; wanted a WWW-Authenticate header", answer.line())
            })
        })
        .await;
    suite
        .check("auth.wrong", async {
            let wrong = if suite.endpoint.is_basic() {
                WRONG_BASIC
            } else {
                WRONG_BEARER
            };
            suite
                .endpoint
                .send(Ask::get("/batches").with_login(wrong))
                .await?
                .status(401)
                .map(|_| ())
        })
        .await;
}
