//! Reads a client's submission: Livy's `CreateBatchRequest`, as Jackson would read it, with better
//! manners.
//!
//! Owns coercion and every rule by which Livy itself would refuse a submission, because a refusal
//! by Livy leaves a ghost behind. Scalars become text as in Jackson and keep their spelling (`2.50`
//! stays `2.50`); `null` is absent; `"2"` is the integer 2.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use thiserror::Error;

use crate::json::shorten;
use crate::model::{BatchSpec, ConfMap, Field};

/// Longest name. Lists carry names: a very long one would be a burden on everybody who lists.
pub const LONGEST_NAME: usize = 512;

/// How much of a wrong value is quoted back.
const LONGEST_EXCERPT: usize = 40;

/// Why a submission can't be accepted from anybody, whatever the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestFault {
    /// The body is no JSON.
    #[error("the body is not valid JSON: {reason} (line {line}, column {column})")]
    Malformed {
        /// What the parser expected.
        reason: String,
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("the body must be one JSON object, found {found}")]
    NotAnObject {
        /// The JSON type that was there.
        found: &'static str,
    },
    /// A key that Livy does not know.
    #[error("unknown field {field:?}{}", nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownField {
        /// The key as sent.
        field: String,
        /// The nearest real field, if one is near.
        nearest: Option<&'static str>,
    },
    /// A value that can't be read as the field's type.
    #[error("field {path:?} must be {expected}, found {found}")]
    WrongType {
        /// Field name, with the index or key below it.
        path: String,
        /// The type in words.
        expected: &'static str,
        /// The JSON type, or the text, that was there.
        found: String,
    },
    /// A value of the right type that Livy would refuse.
    #[error("field {field:?}: {reason}")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// Livy's reason where Livy has one.
        reason: String,
    },
}

/// Reads and validates a submission.
///
/// # Errors
/// The first fault found; nothing of the body is used then.
pub fn parse(body: &[u8]) -> Result<BatchSpec, RequestFault> {
    let raw: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    if kind(raw) != "an object" {
        return Err(RequestFault::NotAnObject { found: kind(raw) });
    }
    let keys: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(malformed)?;
    let mut spec = BatchSpec::default();
    for (key, value) in keys {
        let Some(field) = Field::from_name(&key) else {
            return Err(RequestFault::UnknownField {
                nearest: nearest_field(&key),
                field: key,
            });
        };
        read_field(&mut spec, field, value)?;
    }
    validate(&spec)?;
    Ok(spec)
}

fn read_field(spec: &mut BatchSpec, field: Field, value: &RawValue) -> Result<(), RequestFault> {
    let name = field.name();
    match field {
        Field::File => spec.file = optional_text(name, value)?.unwrap_or_default(),
        Field::ProxyUser => {
            spec.proxy_user = optional_text(name, value)?.filter(|user| !user.is_empty())
        }
        Field::ClassName => spec.class_name = optional_text(name, value)?,
        Field::Args => spec.args = text_list(name, value)?,
        Field::Jars => spec.jars = text_list(name, value)?,
        Field::PyFiles => spec.py_files = text_list(name, value)?,
        Field::Files => spec.files = text_list(name, value)?,
        Field::DriverMemory => spec.driver_memory = optional_text(name, value)?,
        Field::DriverCores => spec.driver_cores = integer(name, value)?,
        Field::ExecutorMemory => spec.executor_memory = optional_text(name, value)?,
        Field::ExecutorCores => spec.executor_cores = integer(name, value)?,
        Field::NumExecutors => spec.num_executors = integer(name, value)?,
        Field::Archives => spec.archives = text_list(name, value)?,
        Field::Queue => spec.queue = optional_text(name, value)?,
        Field::Name => spec.name = optional_text(name, value)?,
        Field::Conf => spec.conf = text_map(name, value)?,
    }
    Ok(())
}

fn malformed(error: serde_json::Error) -> RequestFault {
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason)
        .to_owned();
    RequestFault::Malformed {
        reason,
        line: error.line(),
        column: error.column(),
    }
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Reads a scalar as Jackson's `getValueAsString` does: a number or boolean becomes its own
/// spelling.
fn scalar(value: &RawValue) -> Option<String> {
    match kind(value) {
        "a text" => serde_json::from_str(value.get()).ok(),
        "a number" | "a boolean" => Some(value.get().to_owned()),
        _ => None,
    }
}

fn wrong(path: String, expected: &'static str, value: &RawValue) -> RequestFault {
    RequestFault::WrongType {
        path,
        expected,
        found: kind(value).to_owned(),
    }
}

fn optional_text(name: &str, value: &RawValue) -> Result<Option<String>, RequestFault> {
    match kind(value) {
        "null" => Ok(None),
        _ => scalar(value)
            .map(Some)
            .ok_or_else(|| wrong(name.to_owned(), "a text", value)),
    }
}

fn integer(name: &str, value: &RawValue) -> Result<Option<i32>, RequestFault> {
    const EXPECTED: &str = "a 32-bit integer";
    match kind(value) {
        "null" => Ok(None),
        "a text" | "a number" => {
            let text = scalar(value).unwrap_or_default();
            let fault = || RequestFault::WrongType {
                path: name.to_owned(),
                expected: EXPECTED,
                found: format!("{} {}", kind(value), shorten(value.get(), LONGEST_EXCERPT)),
            };
            text.trim().parse().map(Some).map_err(|_| fault())
        }
        _ => Err(wrong(name.to_owned(), EXPECTED, value)),
    }
}

fn text_list(name: &str, value: &RawValue) -> Result<Vec<String>, RequestFault> {
    if kind(value) == "null" {
        return Ok(Vec::new());
    }
    let items: Vec<&RawValue> = serde_json::from_str(value.get())
        .map_err(|_| wrong(name.to_owned(), "a list of texts", value))?;
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| {
            scalar(item).ok_or_else(|| wrong(format!("{name}[{at}]"), "a text", item))
        })
        .collect()
}

fn text_map(name: &str, value: &RawValue) -> Result<ConfMap, RequestFault> {
    if kind(value) == "null" {
        return Ok(ConfMap::new());
    }
    let items: BTreeMap<String, &RawValue> = serde_json::from_str(value.get())
        .map_err(|_| wrong(name.to_owned(), "an object of texts", value))?;
    items
        .into_iter()
        .map(|(key, item)| {
            // Livy hands a null value on as the text "null" (`--conf c=null`).
            let text = if kind(item) == "null" {
                Some("null".to_owned())
            } else {
                scalar(item)
            };
            match text {
                Some(text) => Ok((key, text)),
                None => Err(wrong(format!("{name}.{key}"), "a text", item)),
            }
        })
        .collect()
}

fn nearest_field(key: &str) -> Option<&'static str> {
    let lower = key.to_ascii_lowercase();
    Field::ALL
        .into_iter()
        .map(|field| {
            (
                strsim::damerau_levenshtein(&lower, &field.name().to_ascii_lowercase()),
                field.name(),
            )
        })
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Applies the rules of `BatchSession`, `Session.resolveURI` and `SessionManager.register` of
/// Apache Livy.
fn validate(spec: &BatchSpec) -> Result<(), RequestFault> {
    let invalid = |field: Field, reason: String| {
        Err(RequestFault::Invalid {
            field: field.name(),
            reason,
        })
    };
    if spec.file.is_empty() {
        return invalid(Field::File, "File is required.".into());
    }
    let lists = [
        (Field::File, std::slice::from_ref(&spec.file)),
        (Field::Jars, &spec.jars),
        (Field::PyFiles, &spec.py_files),
        (Field::Files, &spec.files),
        (Field::Archives, &spec.archives),
    ];
    for (field, paths) in lists {
        for path in paths {
            if let Err(reason) = check_uri(path) {
                return invalid(field, reason);
            }
        }
    }
    if let Some(name) = &spec.name {
        if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            return invalid(Field::Name, format!("Invalid session name: {name}"));
        }
        if name.chars().any(char::is_control) {
            return invalid(Field::Name, "a name holds no control characters.".into());
        }
        if name.chars().count() > LONGEST_NAME {
            return invalid(
                Field::Name,
                format!("a name has at most {LONGEST_NAME} characters."),
            );
        }
    }
    Ok(())
}

/// Refuses what `java.net.URI` can't parse, and a path without scheme that is not absolute.
fn check_uri(text: &str) -> Result<(), String> {
    let illegal = |c: char| c.is_ascii_control() || " \"<>\\^`{|}".contains(c);
    if let Some(at) = text.find(illegal) {
        return Err(format!(
            "Illegal character at index {at} of '{text}': write it percent-encoded."
        ));
    }
    let escapes_hold = text.match_indices('%').all(|(at, _)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    });
    if !escapes_hold {
        return Err(format!("Malformed escape pair in '{text}'."));
    }
    if scheme(text).is_none() && !text.starts_with('/') {
        return Err(format!("Path '{text}' is not absolute."));
    }
    Ok(())
}

/// Returns the scheme of a URI, if it has one (RFC 3986 section 3.1).
pub fn scheme(text: &str) -> Option<&str> {
    let end = text.find([':', '/', '?', '#'])?;
    let scheme = &text.as_bytes()[..end];
    let legal = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    (text.as_bytes()[end] == b':' && legal).then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> String {
        parse(body.as_bytes())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn scalars_are_coerced_as_jackson_does() {
        let body = r#"{"file":"/a.py","args":["a",2,true,2.50,99999999999999999999],"conf":{"x":1,"y":true,"z":null},
            "driverCores":"2","executorCores":3,"jars":null,"conf2":null}"#;
        assert_eq!(
            fault(body),
            r#"unknown field "conf2"; did you mean "conf"?"#
        );
        let spec = parse(body.replace(r#","conf2":null"#, "").as_bytes()).expect("is valid");
        assert_eq!(
            spec.args,
            ["a", "2", "true", "2.50", "99999999999999999999"]
        );
        assert_eq!(
            spec.conf.values().collect::<Vec<_>>(),
            ["1", "true", "null"]
        );
        assert_eq!(
            (spec.driver_cores, spec.executor_cores, spec.jars.len()),
            (Some(2), Some(3), 0)
        );
    }

    #[test]
    fn faults_name_field_type_and_position() {
        assert_eq!(
            fault("{\"file\":\n "),
            "the body is not valid JSON: EOF while parsing a value (line 2, column 1)"
        );
        assert_eq!(
            fault("[]"),
            "the body must be one JSON object, found a list"
        );
        assert_eq!(
            fault(""),
            "the body is not valid JSON: EOF while parsing a value (line 1, column 0)"
        );
        assert_eq!(
            fault(r#"{"File":"/x"}"#),
            r#"unknown field "File"; did you mean "file"?"#
        );
        assert_eq!(
            fault(r#"{"file":"/x","args":"x"}"#),
            r#"field "args" must be a list of texts, found a text"#
        );
        assert_eq!(
            fault(r#"{"file":"/x","args":["a",null]}"#),
            r#"field "args[1]" must be a text, found null"#
        );
        assert_eq!(
            fault(r#"{"file":"/x","conf":{"k":[]}}"#),
            r#"field "conf.k" must be a text, found a list"#
        );
        assert_eq!(
            fault(r#"{"file":"/x","driverCores":2.5}"#),
            r#"field "driverCores" must be a 32-bit integer, found a number 2.5"#
        );
        assert!(fault(r#"{"file":"/x","numExecutors":99999999999}"#).contains("32-bit integer"));
        assert_eq!(fault("{}"), r#"field "file": File is required."#);
        assert_eq!(
            fault(r#"{"file":null}"#),
            r#"field "file": File is required."#
        );
        assert_eq!(
            fault(r#"{"file":""}"#),
            r#"field "file": File is required."#
        );
        assert_eq!(
            fault(r#"{"file":"a.py"}"#),
            r#"field "file": Path 'a.py' is not absolute."#
        );
        assert_eq!(
            fault(r#"{"file":"/x","jars":["b.jar"]}"#),
            r#"field "jars": Path 'b.jar' is not absolute."#
        );
        assert!(fault(r#"{"file":"/x y"}"#).contains("Illegal character at index 2"));
        assert_eq!(
            fault(r#"{"file":"/x","name":123}"#),
            r#"field "name": Invalid session name: 123"#
        );
        assert_eq!(
            fault(r#"{"file":"/x","name":""}"#),
            r#"field "name": Invalid session name: "#
        );
        assert!(
            fault(r#"{"file":"/x"} trailing"#).contains("trailing characters (line 1, column 15)")
        );
    }

    #[test]
    fn schemes_follow_the_rfc() {
        assert_eq!(scheme("cos://b.s/o"), Some("cos"));
        assert_eq!(scheme("/a:b"), None);
        assert_eq!(scheme("1a:b"), None);
        assert_eq!(scheme("plain"), None);
    }
}
