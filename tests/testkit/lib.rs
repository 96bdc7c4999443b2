//! What the test suites share: the gateway's own program in front of simulated or real clusters, a
//! client that talks to it byte by byte, proxies and token endpoints that misbehave when told to.

pub mod chance;
pub mod fault_proxy;
pub mod issuer;
pub mod keeper;
pub mod scenario;
pub mod servers;

mod clusters;
mod gateway;
mod long_list;
mod process;
mod root;
mod scene;
mod secrets;
mod wire;

pub use clusters::{Clusters, FLAVORS, base_of};
pub use gateway::{Gateway, addresses, admin, serve, serve_with_limit};
pub use long_list::LongList;
pub use process::{PATIENCE, Process, binary, run};
pub use scene::{Scene, htpasswd, plain_folder};
pub use secrets::{
    ALICE, AUDIENCE, BOB, CONF_SECRET, ENDPOINT_SECRET, ISSUER, JWT_SECRET, ROOT,
    assert_no_secrets, sign, token,
};
pub use wire::{
    Head, Reply, Request, exchange, over_tls, read_body, read_head, read_reply, tls_config,
};
