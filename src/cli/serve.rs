//! `livy-gateway serve`.

use std::path::Path;

use super::shared;
use crate::engine::Engine;

pub(super) fn run(path: &Path) -> Result<(), String> {
    shared::runtime()?.block_on(async {
        let engine = Engine::start(path).await?;
        engine.until_told().await;
        engine.stop().await;
        Ok(())
    })
}
