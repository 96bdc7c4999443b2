//! Who may log in to the gateway of a test, with what; and what must be seen nowhere.

use base64::Engine as _;
use livy_gateway::sandbox::{PASSWORD, TOKEN, USER};
use serde_json::{Value, json};

/// What tokens of the `robots` authenticator are signed with.
pub const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef-test-only";
/// Who issues them.
pub const ISSUER: &str = "https://issuer.test";
/// Whom they are for.
pub const AUDIENCE: &str = "livy-gateway";
/// A user with her password.
pub const ALICE: (&str, &str) = ("alice", "alices-password");
/// Another user.
pub const BOB: (&str, &str) = ("bob", "bobs-password");
/// The administrator.
pub const ROOT: (&str, &str) = ("root", "roots-password");
/// What every secret of the token endpoint's tests begins with.
pub const ENDPOINT_SECRET: &str = "issued-secret";
/// A credential-like value of a submission's `conf`.
pub const CONF_SECRET: &str = "conf-secret-key-value";

/// What must never be seen outside a request that brought it.
const SECRETS: [&str; 9] = [
    ENDPOINT_SECRET,
    PASSWORD,
    TOKEN,
    JWT_SECRET,
    ALICE.1,
    BOB.1,
    CONF_SECRET,
    "KNOXSESSIONID",
    "rememberMe",
];

/// Fails if a text shows what it must not show.
#[track_caller]
pub fn assert_no_secrets(what: &str, text: &str) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for secret in SECRETS
        .iter()
        .copied()
        .chain([encoded.as_str(), "WWW-Authenticate: BASIC"])
    {
        assert!(
            !text.contains(secret),
            "{what} shows the secret {secret:?}:\n{text}"
        );
    }
}

/// Signs a token for the `robots` authenticator; `claims` overrides the good ones.
pub fn token(claims: Value) -> String {
    sign(
        claims,
        &jsonwebtoken::Header::default(),
        &jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes()),
    )
}

/// Signs a token with any key; `claims` overrides the good ones.
pub fn sign(
    claims: Value,
    header: &jsonwebtoken::Header,
    key: &jsonwebtoken::EncodingKey,
) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600});
    for (name, value) in claims.as_object().expect("an object") {
        all[name] = value.clone();
    }
    all.as_object_mut()
        .expect("an object")
        .retain(|_, value| !value.is_null());
    jsonwebtoken::encode(header, &all, key).expect("signs")
}
