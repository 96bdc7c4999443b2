//! `livy-gateway serve`.

use std::path::Path;
use std::time::Duration;

use super::shared;
use crate::engine::Engine;

/// How long threads that wait for a disk may take at the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

pub(super) fn run(path: &Path) -> Result<(), String> {
    let runtime = shared::runtime()?;
    let ended = runtime.block_on(async {
        let engine = Engine::start(path).await?;
        engine.until_told().await;
        engine.stop().await;
        Ok(())
    });
    // A disk that does not answer holds threads, and must not hold the process.
    runtime.shutdown_timeout(LAST_THREADS);
    ended
}
