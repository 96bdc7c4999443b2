//! The `livy-gateway` program. Everything is in the library, where it can be tested.

use std::process::ExitCode;

/// jemalloc gives memory back after a burst of connections; glibc's allocator keeps it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    livy_gateway::cli::run()
}
