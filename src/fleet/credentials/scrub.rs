//! No credential of ours leaves in any text: a front that quotes the request which it refuses would
//! hand it to the client, the log or a batch's log lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::HeaderValue;

/// What stands in a secret's place.
const MASK: &str = "***";

/// A shorter password is not looked for: it would be found in half of all words.
const SHORTEST: usize = 6;

/// Takes the secrets of an `Authorization` header out of an answer's body; `None` if there are none
/// in it.
pub(in crate::fleet) fn scrub(body: &Bytes, login: Option<&HeaderValue>) -> Option<Bytes> {
    let secrets = secrets(login?.to_str().ok()?);
    let text = std::str::from_utf8(body).ok()?;
    if !secrets.iter().any(|secret| text.contains(secret.as_str())) {
        return None;
    }
    let clean = secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
    Some(clean.into())
}

/// Returns what is secret in a login: the token, and of a password the pair, encoded, and the
/// password itself.
fn secrets(login: &str) -> Vec<String> {
    let (scheme, token) = login.split_once(' ').unwrap_or(("", login));
    let mut secrets = vec![token.trim().to_owned()];
    if scheme.eq_ignore_ascii_case("basic")
        && let Ok(pair) = STANDARD.decode(token.trim())
        && let Ok(pair) = String::from_utf8(pair)
        && let Some((_, password)) = pair.split_once(':')
    {
        secrets.push(password.to_owned());
    }
    secrets.retain(|secret| secret.len() >= SHORTEST);
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(body: &str, login: &str) -> Option<String> {
        let login = HeaderValue::from_str(login).expect("is a value");
        let body = Bytes::from(body.to_owned());
        let clean = scrub(&body, Some(&login))?;
        Some(String::from_utf8(clean.to_vec()).expect("is text"))
    }

    #[test]
    fn what_we_sent_is_taken_out_in_every_form() {
        let pair = STANDARD.encode("gateway:open sesame");
        let quoted = format!("bad header 'Basic {pair}' of gateway (open sesame)");
        assert_eq!(
            clean(&quoted, &format!("Basic {pair}")).as_deref(),
            Some("bad header 'Basic ***' of gateway (***)")
        );
        assert_eq!(
            clean("Bearer eyJ0.token is unknown", "Bearer eyJ0.token").as_deref(),
            Some("Bearer *** is unknown")
        );
        assert_eq!(clean("no such batch", &format!("Basic {pair}")), None);
        let short = STANDARD.encode("a:b");
        assert_eq!(clean("a batch", &format!("Basic {short}")), None);
        assert_eq!(scrub(&Bytes::from_static(b"x"), None), None);
    }
}
