//! Laws that hold for every flavor, whatever a client sends and whatever an upstream answers.

use std::collections::BTreeMap;

use livy_dialect::{
    BatchRef, BatchSpec, BatchState, Field, Flavor, LogWindow, NoteAction, Settings,
    UpstreamResponse,
};
use proptest::prelude::*;
use serde_json::Value;

fn settings() -> Settings {
    Settings {
        instance_id: Some("guid".into()),
        default_fs: None,
    }
}

/// Texts that clients could send; each is marked, so that it can be found again.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/._é-]{1,12}".prop_map(|text| format!("~{text}~"))
}

fn list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

prop_compose! {
    fn spec()(
        file in prop_oneof!["hdfs:///[a-z]{1,8}\\.py", "hdfs:///[a-z]{1,8}\\.jar", "/[a-z]{1,8}\\.py"],
        proxy_user in prop::option::of(text()), class_name in prop::option::of(text()), queue in prop::option::of(text()),
        name in prop::option::of(text()), driver_memory in prop::option::of(text()), executor_memory in prop::option::of(text()),
        (args, jars, py_files, files, archives) in (list(), list(), list(), list(), list()),
        (driver_cores, executor_cores, num_executors) in (prop::option::of(any::<i32>()), prop::option::of(any::<i32>()), prop::option::of(any::<i32>())),
        conf in prop::collection::btree_map("(spark\\.|my\\.)[a-z]{1,8}\\.[a-z]{1,8}", text(), 0..4),
    ) -> BatchSpec {
        BatchSpec { file, proxy_user, class_name, args, jars, py_files, files, driver_memory, driver_cores, executor_memory,
            executor_cores, num_executors, archives, queue, name, conf }
    }
}

/// Every text and number in a JSON value.
fn leaves(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|inner| leaves(inner, out)),
        Value::Array(items) => items.iter().for_each(|inner| leaves(inner, out)),
        Value::String(text) => out.push(text.clone()),
        other => out.push(other.to_string()),
    }
}

/// Tells whether a field's value, all of it, is somewhere in what is sent.
fn arrives(spec: &BatchSpec, field: Field, sent: &[String]) -> bool {
    let Some(value) = spec.value(field) else {
        return true;
    };
    let mut wanted = Vec::new();
    leaves(&value, &mut wanted);
    wanted.iter().all(|leaf| {
        sent.iter()
            .any(|text| text == leaf || text.split(',').any(|part| part == leaf))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_field_is_lost_in_silence(spec in spec()) {
        for flavor in Flavor::ALL {
            let dialect = flavor.dialect();
            match dialect.create(&spec, "0e0b6f5e-0000-4000-8000-000000000000", &settings()) {
                Ok(encoded) => {
                    let mut sent = Vec::new();
                    leaves(&encoded.request.body.clone().expect("a POST has a body"), &mut sent);
                    for field in Field::ALL {
                        let dropped = encoded.notes.iter().any(|note| note.field == field && note.action == NoteAction::Dropped);
                        prop_assert!(dropped || arrives(&spec, field, &sent), "{flavor} lost {} of {spec:?} in {sent:?}", field.name());
                    }
                }
                Err(refused) => {
                    prop_assert!(!refused.is_empty());
                    for one in &refused {
                        prop_assert!(spec.has(one.field) || one.field == Field::ClassName, "{flavor} refuses {} that was not sent", one.field.name());
                        prop_assert!(!one.reason.is_empty());
                    }
                    // What may be dropped is gone then, and the rest goes through.
                    if refused.iter().all(|one| one.droppable) {
                        let mut rest = spec.clone();
                        for one in &refused {
                            let note = one.drop_from(&mut rest);
                            prop_assert!(note.action == NoteAction::Dropped && note.text.contains("was dropped"));
                        }
                        prop_assert!(dialect.create(&rest, "k", &settings()).is_ok(), "{flavor} refuses again: {rest:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_that_an_upstream_says_panics(status in 100u16..600, kind in prop::option::of("(application/json|text/html|text/plain|[a-z/]{0,9})"), body in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everything(status, kind.as_deref(), &body)?;
    }

    #[test]
    fn no_json_that_an_upstream_says_panics(status in prop_oneof![Just(200u16), Just(201), Just(400), Just(404), Just(500)], body in json_like()) {
        read_everything(status, Some("application/json"), body.to_string().as_bytes())?;
    }

    #[test]
    fn every_state_word_lands_among_the_six(state in prop::option::of("[a-zA-Z_]{0,14}"), app in prop::option::of("[A-Z_]{0,12}"), last in prop::option::of(0usize..6)) {
        let last = last.map(|at| BatchState::ALL[at]);
        for reading in [livy_dialect::kyuubi::livy_state_of(state.as_deref(), app.as_deref()), livy_dialect::state::livy_state(state.as_deref().unwrap_or_default())] {
            let settled = reading.settle(last);
            prop_assert!(BatchState::ALL.contains(&settled));
            if let Some(before) = last {
                prop_assert!(!before.is_terminal() || settled == before, "{before} was final");
                prop_assert!(!(before == BatchState::Running && settled == BatchState::Starting), "running does not start again");
            }
        }
    }

    #[test]
    fn every_window_stays_inside(from in prop::option::of(any::<i32>()), size in prop::option::of(any::<i32>()), total in 0usize..10_000) {
        let (start, range) = LogWindow { from, size }.resolve(total);
        prop_assert!(range.start <= range.end && range.end <= total && start >= 0);
        let list = livy_dialect::ListWindow { from: from.unwrap_or(0), size: size.unwrap_or(100) }.range(total);
        prop_assert!(list.start <= list.end && list.end <= total);
    }

    #[test]
    fn no_path_leaves_its_segment(id in "\\PC{1,20}", name in prop::option::of("\\PC{1,20}")) {
        let batch = BatchRef { upstream_id: &id, sent_name: name.as_deref() };
        for flavor in Flavor::ALL {
            let dialect = flavor.dialect();
            for request in [dialect.get(batch), dialect.state(batch), dialect.delete(batch), dialect.log_page(batch, 0, 10)] {
                let path = request.path.split('?').next().unwrap_or_default().to_owned();
                prop_assert!(path.starts_with("/batches/"));
                prop_assert!(path.matches('/').count() <= 3 && path.is_ascii() && !path.contains(['#', ';', ' ']), "{flavor}: {path}");
            }
        }
    }

    #[test]
    fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = livy_dialect::request::parse(&body);
    }

    #[test]
    fn any_json_body_is_read_or_refused_with_a_name(body in json_like()) {
        if let Err(fault) = livy_dialect::request::parse(body.to_string().as_bytes()) {
            prop_assert!(!fault.to_string().is_empty());
        }
    }
}

/// JSON with the keys that decoders look for, and values of every type behind them.
fn json_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![Just("RUNNING"), Just("success"), Just("null"), Just("17")]
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("id"),
        Just("state"),
        Just("appState"),
        Just("appInfo"),
        Just("app_info"),
        Just("log"),
        Just("logRowSet"),
        Just("sessions"),
        Just("batches"),
        Just("from"),
        Just("total"),
        Just("name"),
        Just("errors"),
        Just("msg"),
        Just("message"),
        Just("batchInfo"),
        Just("file"),
        Just("args"),
        Just("conf"),
        Just("driverCores"),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone().prop_map(str::to_owned), inner), 0..6).prop_map(
                |pairs| Value::Object(
                    pairs
                        .into_iter()
                        .collect::<BTreeMap<_, _>>()
                        .into_iter()
                        .collect()
                )
            ),
        ]
    })
}

fn read_everything(status: u16, kind: Option<&str>, body: &[u8]) -> Result<(), TestCaseError> {
    let response = UpstreamResponse {
        status,
        content_type: kind,
        body,
    };
    for flavor in Flavor::ALL {
        let dialect = flavor.dialect();
        for result in [
            dialect.decode_create(&response),
            dialect.decode_get(&response),
        ] {
            match result {
                Ok(seen) => {
                    prop_assert!(
                        response.is_success(),
                        "{flavor} took a {status} for a success"
                    );
                    prop_assert!(!seen.upstream_id.is_empty());
                    prop_assert!(
                        seen.app_info.contains_key("sparkUiUrl")
                            && seen.app_info.contains_key("driverLogUrl")
                    );
                    let _ = dialect.is_leftover(&seen);
                }
                Err(fault) => prop_assert!(
                    !fault.message.is_empty() && fault.message.chars().count() <= 400,
                    "{flavor}: {fault:?}"
                ),
            }
        }
        let _ = (
            dialect.decode_state(&response),
            dialect.decode_log(&response),
            dialect.decode_list(&response),
            dialect.decode_delete(&response),
        );
    }
    Ok(())
}
