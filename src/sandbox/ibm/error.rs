//! How IBM says no.

use serde_json::json;

use crate::sandbox::told::Told;

pub(super) fn error(status: u16, code: &str, text: &str) -> Told {
    let body = json!({"errors": [{"code": code, "message": text, "more_info": "https://cloud.ibm.com/apidocs"}],
        "trace": "sandbox-trace", "status_code": status});
    Told::new(status, "application/json", body.to_string())
}
