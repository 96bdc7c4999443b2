//! How Livy 0.7.1 takes a submission: Jackson reads it, coercing scalars; the batch is registered;
//! only then is it looked at.

use livy_dialect::Field;
use serde_json::{Map, Value};

use super::key::is_number;
use super::shape::{batch, message};
use crate::sandbox::asked::{Asked, says_form};
use crate::sandbox::double::Double;
use crate::sandbox::job::{Jobs, Taken};
use crate::sandbox::told::Told;

const LISTS: [&str; 5] = ["args", "jars", "pyFiles", "files", "archives"];
const INTEGERS: [&str; 3] = ["driverCores", "executorCores", "numExecutors"];

pub(super) fn create(double: &Double, asked: &Asked) -> Told {
    let submission = match read(asked) {
        Ok(submission) => submission,
        Err(refusal) => return refusal,
    };
    let mut jobs = double.jobs();
    // From here on the id is taken, whatever comes of it.
    let Some(submission) = submission else {
        jobs.skip_id();
        return bare(500, "java.lang.NullPointerException");
    };
    if let Some(refusal) = refuse_before_registering(&mut jobs, &submission) {
        return refusal;
    }
    // And from here on a refusal leaves a ghost.
    if let Some(refusal) = refuse(&submission) {
        jobs.add(Taken {
            ghost: true,
            ..Taken::of(&submission, asked)
        });
        return refusal;
    }
    let job = jobs.add(Taken::of(&submission, asked));
    let location = format!("/batches/{}", job.id);
    Told::json(201, &batch(double, &job)).with("location", location)
}

/// Livy's answer for what its JSON reader or its handler threw: the exception, as a JSON string.
fn bare(status: u16, text: &str) -> Told {
    Told::json(status, &Value::from(text))
}

/// Reads the body as Jackson does; `None` for `null`.
fn read(asked: &Asked) -> Result<Option<Map<String, Value>>, Told> {
    // A form is read as one, by somebody else: nothing is left for the JSON reader.
    let body = if says_form(&asked.headers) {
        &[][..]
    } else {
        &asked.body[..]
    };
    // What follows the first value is not looked at.
    let first = serde_json::Deserializer::from_slice(body)
        .into_iter::<Value>()
        .next();
    let mut submission = match first {
        Some(Ok(Value::Object(map))) => map,
        Some(Ok(Value::Null)) => return Ok(None),
        Some(Ok(_)) => {
            return Err(bare(
                400,
                "Cannot deserialize instance of `org.apache.livy.server.batch.CreateBatchRequest`",
            ));
        }
        Some(Err(error)) => return Err(bare(400, &unparsable(&error))),
        None => {
            return Err(bare(
                400,
                &located("No content to map due to end-of-input", 1, 0),
            ));
        }
    };
    if let Some(unknown) = submission
        .keys()
        .find(|key| Field::from_name(key).is_none())
    {
        let class =
            "(class org.apache.livy.server.batch.CreateBatchRequest), not marked as ignorable";
        return Err(bare(
            400,
            &format!("Unrecognized field \"{unknown}\" {class}"),
        ));
    }
    for (key, value) in &mut submission {
        coerce(key, value).map_err(|what| {
            bare(
                400,
                &format!("Cannot deserialize instance of `{what}` token"),
            )
        })?;
    }
    Ok(Some(submission))
}

/// Says what Jackson says of a text that is no JSON.
fn unparsable(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => {
            "Unexpected end-of-input within/between Object entries".to_owned()
        }
        _ => error.to_string(),
    };
    located(&what, error.line(), error.column())
}

fn located(what: &str, line: usize, column: usize) -> String {
    format!(
        "{what}\n at [Source: (org.eclipse.jetty.server.HttpInputOverHTTP); line: {line}, column: {column}]"
    )
}

/// Turns scalars into texts where texts are wanted. Integers are not looked at: their type is
/// erased before Jackson sees it.
fn coerce(key: &str, value: &mut Value) -> Result<(), &'static str> {
    if INTEGERS.contains(&key) || value.is_null() {
        return Ok(());
    }
    if LISTS.contains(&key) {
        let list = value
            .as_array_mut()
            .ok_or("scala.collection.immutable.List` out of VALUE_STRING")?;
        return list.iter_mut().try_for_each(text);
    }
    if key == "conf" {
        let map = value
            .as_object_mut()
            .ok_or("scala.collection.immutable.Map` out of START_ARRAY")?;
        return map.values_mut().try_for_each(text);
    }
    text(value)
}

fn text(value: &mut Value) -> Result<(), &'static str> {
    match value {
        Value::String(_) | Value::Null => {}
        Value::Bool(_) | Value::Number(_) => *value = Value::String(value.to_string()),
        Value::Array(_) => return Err("java.lang.String` out of START_ARRAY"),
        Value::Object(_) => return Err("java.lang.String` out of START_OBJECT"),
    }
    Ok(())
}

/// Refusals that leave nothing but a gap in the ids.
fn refuse_before_registering(jobs: &mut Jobs, submission: &Map<String, Value>) -> Option<Told> {
    if LISTS
        .into_iter()
        .chain(["conf"])
        .any(|key| submission.get(key).is_some_and(Value::is_null))
    {
        jobs.skip_id();
        return Some(bare(500, "java.lang.NullPointerException"));
    }
    let name = submission.get("name").and_then(Value::as_str)?;
    if is_number(name) {
        jobs.skip_id();
        return Some(message(400, &format!("Invalid session name: {name}")));
    }
    if jobs
        .holder(|job| job.name.as_deref() == Some(name))
        .is_some()
    {
        let id = jobs.skip_id();
        return Some(message(
            400,
            &format!("Duplicate session name: Some({name}) for session {id}"),
        ));
    }
    None
}

/// Refusals of a batch that is registered already.
fn refuse(submission: &Map<String, Value>) -> Option<Told> {
    let failed = |what: String| Some(message(400, &format!("requirement failed: {what}")));
    let file = match submission.get("file").and_then(Value::as_str) {
        None => return failed("File is required.".into()),
        Some("") => return Some(bare(500, "java.lang.IndexOutOfBoundsException: 0")),
        Some(file) => file,
    };
    if let Some(at) = file.find(' ') {
        let why =
            format!("java.net.URISyntaxException: Illegal character in path at index {at}: {file}");
        return Some(message(400, &why));
    }
    if !file.starts_with('/') && !file.contains(':') {
        return failed(format!("Path '{file}' is not absolute."));
    }
    let local = file.strip_prefix("file://").unwrap_or(file);
    if local.starts_with("/etc/") || local != file {
        return failed(format!(
            "Local path {local} cannot be added to user sessions."
        ));
    }
    let value = INTEGERS
        .into_iter()
        .filter_map(|key| submission.get(key))
        .find(|value| !is_int(value))?;
    Some(bare(
        500,
        &format!(
            "java.lang.ClassCastException: class {} cannot be cast to class java.lang.Integer",
            class_of(value)
        ),
    ))
}

fn is_int(value: &Value) -> bool {
    value.is_null()
        || value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok())
}

fn class_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_f64() => "java.lang.Double",
        Value::Number(_) => "java.lang.Long",
        _ => "java.lang.String",
    }
}
