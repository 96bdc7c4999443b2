//! `livy-gateway schema`.

use super::shared;
pub(super) fn run() -> Result<(), String> {
    let schema = serde_json::to_string_pretty(&crate::config::schema())
        .map_err(|error| error.to_string())?;
    shared::say(&format!("{schema}\n"))
}
