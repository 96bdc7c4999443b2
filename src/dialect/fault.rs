//! What an upstream's refusal means, and the one sentence in it that a client may see.
//!
//! An upstream may answer with `{"msg"}`, `{"message"}`, `{}`, IBM's `{"errors":[..]}`, a bare JSON
//! string, an HTML page of a Jetty or a load balancer, plain text, or nothing. The body itself
//! never leaves the gateway.

use std::fmt;

use serde_json::Value;

use crate::wire::UpstreamResponse;

/// What an answer that is no success says. What that proves about a submission is decided in
/// [`crate::proof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The batch does not exist there.
    NotFound,
    /// The batch server read the request and refused it; at most a ghost is left.
    Refused,
    /// Refused because the name is taken; what a look-up finds is somebody else's batch.
    DuplicateName,
    /// Refused unread or uncounted: the cluster has no room.
    Busy,
    /// The gateway's own login was refused.
    Unauthorized,
    /// The gateway's login may not do this (impersonation, roles).
    Forbidden,
    /// Something in front of the batch server turned a read away (429, 503).
    Unavailable,
    /// An answer that proves nothing.
    Unclear,
    /// A success whose body can't be read.
    Unreadable,
}

impl FaultKind {
    /// Tells whether a submission that ended so was refused by the cluster's own software. The
    /// dialects give these kinds to a submission only for bodies that the flavor writes for exactly
    /// that.
    pub const fn is_own_refusal(self) -> bool {
        match self {
            FaultKind::Refused
            | FaultKind::DuplicateName
            | FaultKind::Busy
            | FaultKind::Unauthorized
            | FaultKind::Forbidden => true,
            FaultKind::NotFound
            | FaultKind::Unavailable
            | FaultKind::Unclear
            | FaultKind::Unreadable => false,
        }
    }

    /// Returns the label for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultKind::NotFound => "not_found",
            FaultKind::Refused => "refused",
            FaultKind::DuplicateName => "duplicate_name",
            FaultKind::Busy => "busy",
            FaultKind::Unauthorized => "unauthorized",
            FaultKind::Forbidden => "forbidden",
            FaultKind::Unavailable => "unavailable",
            FaultKind::Unclear => "unclear",
            FaultKind::Unreadable => "unreadable",
        }
    }
}

/// A decoded refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFault {
    /// What it proves.
    pub kind: FaultKind,
    /// The upstream's HTTP status.
    pub status: u16,
    /// One sentence for the client; never a raw body.
    pub message: String,
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}): {}",
            self.kind.as_str(),
            self.status,
            self.message
        )
    }
}

impl UpstreamFault {
    /// Makes a fault from an answer, with the message read out of its body where that is safe to
    /// show.
    ///
    /// A 401 page may echo the credentials it was sent (Kyuubi does), so no word of it is kept.
    pub fn of(kind: FaultKind, response: &UpstreamResponse<'_>) -> Self {
        let message = match kind {
            FaultKind::Unauthorized => {
                "the cluster refused the gateway's own credentials".to_owned()
            }
            _ => message(response)
                .unwrap_or_else(|| format!("the cluster answered {}", response.status)),
        };
        UpstreamFault {
            kind,
            status: response.status,
            message,
        }
    }

    /// Makes the fault of a success that can't be read.
    pub fn unreadable(response: &UpstreamResponse<'_>, why: &str) -> Self {
        UpstreamFault {
            kind: FaultKind::Unreadable,
            status: response.status,
            message: why.to_owned(),
        }
    }
}

/// Longest message handed on: enough for every sentence seen, too short for a stack trace.
const LONGEST: usize = 300;

/// Reads the message out of an error body, in the order in which real servers write them.
pub fn message(response: &UpstreamResponse<'_>) -> Option<String> {
    let text = if response.is_html() {
        html_message(&String::from_utf8_lossy(response.body))
    } else {
        match serde_json::from_slice(response.body) {
            Ok(Value::String(text)) => Some(text),
            Ok(Value::Object(map)) => object_message(&map),
            Ok(_) => None,
            Err(_) => plain_message(response),
        }
    };
    text.map(|text| tidy(&text)).filter(|text| !text.is_empty())
}

fn object_message(map: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    // IBM Cloud's convention first (API handbook, "errors"), then the order of its SDK
    // (`api_exception.py`), then Livy and Knox.
    let ibm = map
        .get("errors")
        .and_then(|errors| errors.get(0))
        .and_then(|first| first.get("message"));
    ibm.and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| text("msg"))
        .or_else(|| text("error"))
        .or_else(|| text("message"))
        .or_else(|| text("errorMessage"))
}

fn plain_message(response: &UpstreamResponse<'_>) -> Option<String> {
    let text = std::str::from_utf8(response.body).ok()?;
    if text.trim_start().starts_with('<') {
        html_message(text)
    } else {
        Some(text.to_owned())
    }
}

/// Finds the sentence in a Jetty, IIS or load balancer page: `<pre>` (Jetty's reason), else
/// `<title>`, else `<h1>`.
fn html_message(page: &str) -> Option<String> {
    ["pre", "title", "h1"].into_iter().find_map(|tag| {
        let lower = page.to_ascii_lowercase();
        let open = lower.find(&format!("<{tag}>"))? + tag.len() + 2;
        let close = open + lower[open..].find(&format!("</{tag}>"))?;
        let text = strip_tags(page.get(open..close)?);
        (!text.trim().is_empty()).then_some(text)
    })
}

fn strip_tags(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => out.push(c),
            _ => {}
        }
    }
    out.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// Keeps the first line, without the prefixes that Livy and Kyuubi nest, bounded in length.
fn tidy(text: &str) -> String {
    let mut line = text.trim().lines().next().unwrap_or_default().trim();
    for prefix in ["Rejected, Reason: ", "requirement failed: "] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    crate::json::shorten(&clean, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &str) -> Option<String> {
        message(&UpstreamResponse {
            status: 500,
            content_type: Some(content_type),
            body: body.as_bytes(),
        })
    }

    #[test]
    fn every_shape_gives_its_sentence() {
        let json = "application/json;charset=utf-8";
        assert_eq!(
            read(json, r#"{"msg":"requirement failed: File is required."}"#).as_deref(),
            Some("File is required.")
        );
        assert_eq!(
            read(json, r#""java.lang.X: 0\n at y""#).as_deref(),
            Some("java.lang.X: 0")
        );
        assert_eq!(read(json, r#"{"message":null}"#), None);
        assert_eq!(read(json, "{}"), None);
        assert_eq!(
            read(
                json,
                r#"{"errors":[{"code":"c","message":"no room"}],"trace":"t"}"#
            )
            .as_deref(),
            Some("no room")
        );
        assert_eq!(
            read("text/plain", "Unexpected end\n at").as_deref(),
            Some("Unexpected end")
        );
        let jetty = "<html><title>Error 400 </title><p>Reason:\n<pre>    Missing Required Header for CSRF protection.</pre></p></html>";
        assert_eq!(
            read("text/html;charset=iso-8859-1", jetty).as_deref(),
            Some("Missing Required Header for CSRF protection.")
        );
        assert_eq!(
            read("text/html", "<html><head><title>502 Bad Gateway</title>").as_deref(),
            Some("502 Bad Gateway")
        );
        assert_eq!(read("text/html", ""), None);
    }
}
