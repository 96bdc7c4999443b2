//! The accounts that the doubles know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};

/// The account that the doubles of Knox, HDInsight and Kyuubi know.
pub const USER: &str = "gateway";
/// Its password.
pub const PASSWORD: &str = "sandbox-cluster-password";
/// The token that the double of IBM Analytics Engine knows.
pub const TOKEN: &str = "sandbox-cluster-token";
/// The instance that the double of IBM Analytics Engine has.
pub const INSTANCE: &str = "11111111-2222-3333-4444-555555555555";

/// Reads user and password of HTTP Basic.
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    text.split_once(':')
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Tells whether the request carries the account that the doubles know.
pub(super) fn has_account(headers: &HeaderMap) -> bool {
    basic(headers) == Some((USER.to_owned(), PASSWORD.to_owned()))
}
