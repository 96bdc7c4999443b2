//! Reading a request: query parameters as Livy reads them, bodies within limits.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use livy_dialect::request::{RequestFault, parse};
use livy_dialect::{BatchSpec, ListWindow, LogWindow};

use super::error::{ApiError, Code};
use crate::config::parse_duration;

/// The longest wait for a change. Load balancers and proxies cut what is silent for longer: nginx
/// and AWS after 60 s, most others later.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The most batches that one list gives. Livy has no such limit, but it forgets; this gateway holds
/// many more than anybody wants in one answer. Whoever asks for more gets the most, and `total`.
pub const MOST_BATCHES: i32 = 1000;

/// Query parameters that mean something here; the first of a name wins, as in Livy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    from: Option<String>,
    size: Option<String>,
    wait: Option<String>,
    /// The effective user that the client asks for; the name is case-sensitive, as in Livy.
    pub do_as: Option<String>,
}

impl Query {
    /// Reads a query string; what it does not know it ignores.
    pub fn read(text: Option<&str>) -> Query {
        let mut query = Query::default();
        for pair in text.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match decode(name).as_str() {
                "from" => &mut query.from,
                "size" => &mut query.size,
                "wait" => &mut query.wait,
                "doAs" => &mut query.do_as,
                _ => continue,
            };
            slot.get_or_insert_with(|| decode(value));
        }
        query
    }

    /// Returns the window of a list, no longer than [`MOST_BATCHES`].
    ///
    /// # Errors
    /// 400 in Livy's words for what is no 32-bit integer.
    pub fn list_window(&self) -> Result<ListWindow, ApiError> {
        let default = ListWindow::default();
        Ok(ListWindow {
            from: integer(self.from.as_deref())?.unwrap_or(default.from),
            size: integer(self.size.as_deref())?
                .unwrap_or(default.size)
                .min(MOST_BATCHES),
        })
    }

    /// Returns how long to wait for a change.
    ///
    /// # Errors
    /// 400 for what is no duration, or is too long.
    pub fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = &self.wait else {
            return Ok(None);
        };
        match parse_duration(text) {
            Some(wait) if wait <= LONGEST_WAIT => Ok(Some(wait)),
            _ => Err(ApiError::new(
                Code::BadRequest,
                format!(
                    "wait: {text:?} is no duration of at most {} s; write it like `500ms` or `30s`",
                    LONGEST_WAIT.as_secs()
                ),
            )),
        }
    }

    /// Returns the window of a log.
    ///
    /// # Errors
    /// 400 in Livy's words for what is no 32-bit integer.
    pub fn log_window(&self) -> Result<LogWindow, ApiError> {
        Ok(LogWindow {
            from: integer(self.from.as_deref())?,
            size: integer(self.size.as_deref())?,
        })
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

fn integer(text: Option<&str>) -> Result<Option<i32>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    // Rust reads "+3", Livy does not.
    let number = if text.starts_with('+') {
        None
    } else {
        text.parse().ok()
    };
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::new(
            Code::BadRequest,
            format!("For input string: \"{text}\""),
        )),
    }
}

/// Reads the body of a submission.
///
/// # Errors
/// 408, 413 or 415.
pub async fn read_body<B>(
    headers: &HeaderMap,
    body: B,
    largest: usize,
    limit: Duration,
) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    check_media_type(headers)?;
    let too_large = || {
        ApiError::new(
            Code::BodyTooLarge,
            format!("the body is larger than {largest} bytes"),
        )
    };
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > largest as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(limit, Limited::new(body, largest).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(Code::BadRequest, "the body ended early")),
        Err(_) => Err(ApiError::new(
            Code::RequestTimeout,
            format!("the body did not arrive within {limit:?}"),
        )),
    }
}

/// Refuses what can't be JSON; anything else is read as JSON whatever it calls itself, as Livy
/// does.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let lower = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let media_type = lower(CONTENT_TYPE);
    if media_type.starts_with("application/x-www-form-urlencoded")
        || media_type.starts_with("multipart/")
    {
        let message = format!(
            "'{media_type}' is not read here: send the batch as JSON with Content-Type: application/json"
        );
        return Err(ApiError::new(Code::UnsupportedMediaType, message));
    }
    // Java clients send `Content-Encoding: UTF-8`, which means nothing; a real coding would have to
    // be undone.
    let coding = lower(CONTENT_ENCODING);
    if ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"]
        .iter()
        .any(|one| coding.contains(one))
    {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            format!("compressed bodies ('{coding}') are not read here: send plain JSON"),
        ));
    }
    Ok(())
}

/// Reads a submission.
///
/// # Errors
/// 400 that names line and column, field, or type.
pub fn read_spec(body: &[u8]) -> Result<BatchSpec, ApiError> {
    parse(body).map_err(|fault| {
        let code = match fault {
            RequestFault::Malformed { .. } | RequestFault::NotAnObject { .. } => Code::InvalidJson,
            RequestFault::UnknownField { .. } => Code::UnknownField,
            RequestFault::WrongType { .. } => Code::WrongType,
            RequestFault::Invalid { .. } => Code::InvalidField,
        };
        ApiError::new(code, fault.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_longest_page() {
        let window = |text| Query::read(Some(text)).list_window().expect("is valid");
        assert_eq!(window("").size, 100, "as Livy");
        assert_eq!(window("size=1000").size, 1000);
        assert_eq!(window("from=7&size=1001"), window("from=7&size=1000"));
        assert_eq!(window("size=2147483647").size, MOST_BATCHES);
        assert_eq!(window("size=-1").size, -1);
    }

    #[test]
    fn first_parameter_wins_and_odd_numbers_are_named() {
        let query = Query::read(Some("from=3&from=4&size=-1&doAs=ann&doas=bob"));
        assert_eq!(
            query.log_window().expect("is valid"),
            LogWindow {
                from: Some(3),
                size: Some(-1)
            }
        );
        assert_eq!(query.do_as.as_deref(), Some("ann"));
        for (text, said) in [
            ("from=abc", "abc"),
            ("size=", ""),
            ("from=%2B3", "+3"),
            ("size=99999999999", "99999999999"),
        ] {
            let error = Query::read(Some(text))
                .log_window()
                .expect_err("is invalid");
            assert_eq!(error.message, format!("For input string: \"{said}\""));
        }
    }
}
