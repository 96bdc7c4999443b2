//! The knobs of the doubles, for tests. All below `/_sandbox/{flavor}/`:
//!
//! | request | does |
//! | --- | --- |
//! | `POST faults` with a [`Fault`] | the next `times` requests of that operation misbehave |
//! | `DELETE faults` | good behaviour again |
//! | `POST collect` | what has ended is forgotten, as Livy's garbage collection does |
//! | `POST restart`, with a [`Restart`] or nothing | the cluster goes down and comes back |
//! | `POST options` with [`Options`] | switches what the cluster shows |
//! | `GET requests` | every request so far: method, path, headers, body |
//! | `GET books` | every job that ever was, also before a restart |

use std::sync::PoisonError;

use http::Method;
use livy_dialect::Flavor;
use serde_json::{Value, json};

use super::books;
use super::double::Double;
pub use super::knobs::{Fault, FaultAnswer, Moment, Options, Restart};
use super::told::Told;

pub(super) fn answer(doubles: &[Double], path: &str, method: &Method, body: &[u8]) -> Told {
    let (flavor, what) = path.split_once('/').unwrap_or((path, ""));
    let double = Flavor::from_word(flavor)
        .and_then(|flavor| doubles.iter().find(|double| double.flavor == flavor));
    let Some(double) = double else {
        return Told::json(
            404,
            &json!({"msg": format!("no double of {flavor:?} here")}),
        );
    };
    let control = &double.control;
    let done = Told::json(200, &json!({"msg": "done"}));
    match (method.as_str(), what) {
        ("POST", "faults") => match serde_json::from_slice::<Fault>(body) {
            Ok(fault) if fault.times > 0 => {
                control
                    .faults
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(fault);
                done
            }
            Ok(_) => Told::json(400, &json!({"msg": "times must be 1 or more"})),
            Err(error) => Told::json(400, &json!({"msg": error.to_string()})),
        },
        ("DELETE", "faults") => {
            control
                .faults
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            done
        }
        ("POST", "collect") => {
            double.jobs().forget(|job| job.state().is_terminal());
            done
        }
        ("POST", "restart") => match read(body) {
            Ok(how) => {
                double.restart(&how);
                done
            }
            Err(error) => Told::json(400, &json!({"msg": error.to_string()})),
        },
        ("POST", "options") => match read(body) {
            Ok(change) => {
                control.change(change);
                done
            }
            Err(error) => Told::json(400, &json!({"msg": error.to_string()})),
        },
        ("GET", "books") => Told::json(200, &books::of(double)),
        ("GET", "requests") => {
            let requests = control
                .requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            Told::json(200, &Value::Array(requests))
        }
        _ => Told::json(
            404,
            &json!({"msg": "there is: POST or DELETE faults, POST collect, restart or options, GET requests or books"}),
        ),
    }
}

/// Reads a body that may be absent.
fn read<T: Default + serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    if body.is_empty() {
        Ok(T::default())
    } else {
        serde_json::from_slice(body)
    }
}
