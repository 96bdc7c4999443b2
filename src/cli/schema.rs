//! `livy-gateway schema`.

use std::io::Write as _;

pub(super) fn run() -> Result<(), String> {
    let schema = serde_json::to_string_pretty(&crate::config::schema()).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{schema}").map_err(|error| error.to_string())
}
