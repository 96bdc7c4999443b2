//! The walk, and one file per area of checks.

mod auth;
mod batch;
mod batches;
mod http;
mod kill;
mod list;
mod log;
mod refuse;
mod state;
mod submit;

use super::suite::Suite;

/// The whole suite, in order.
pub(super) async fn walk(suite: &Suite) {
    let batches = submit::jobs(suite).await;
    // Jobs take their time; what does not look at them is checked meanwhile.
    let ends = tokio::join!(state::follow(suite, &batches), async {
        refuse::all(suite).await;
        submit::variants(suite).await;
        http::requests(suite, &batches).await;
        auth::all(suite).await;
        batch::missing(suite).await;
    })
    .0;
    log::before_end(suite, &batches).await;
    batch::ended(suite, &batches).await;
    log::windows(suite, &batches).await;
    list::all(suite, &batches).await;
    state::ended(suite, &batches, &ends).await;
    kill::all(suite, &batches, &ends).await;
    http::answers(suite).await;
}
