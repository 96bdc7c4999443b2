//! What only a shared store can do, with two processes on one database. Needs a server:
//! `tests/with-postgres.sh cargo test --lib registry::`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::NoTls;

use super::*;
use crate::config::checked::{ClusterTls, Secret};
use crate::registry::Registry;

/// Makes a database of its own on the server that tests may use; nothing where there is none.
pub(crate) async fn database() -> Option<(Arc<dyn Store>, Postgres)> {
    let server = std::env::var("LIVY_GATEWAY_TEST_POSTGRES").ok()?;
    let (client, connection) = tokio_postgres::connect(&server, NoTls)
        .await
        .expect("the server is there");
    let task = tokio::spawn(connection);
    let name = format!("law_{}", uuid::Uuid::new_v4().simple());
    let made = client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await;
    made.expect("is made");
    task.abort();
    let (before, _) = server.rsplit_once('/').expect("a URL with a database");
    let config = Postgres {
        url: Secret {
            text: SecretString::from(format!("{before}/{name}")),
            file: None,
        },
        pool: 4,
        tls: ClusterTls::default(),
    };
    let store = PostgresStore::open(&config).await.expect("opens");
    Some((Arc::new(store), config))
}

/// Two processes on one database.
async fn two() -> (Registry, Registry) {
    let (first, config) = database().await.expect("LIVY_GATEWAY_TEST_POSTGRES");
    let second: Arc<dyn Store> = Arc::new(PostgresStore::open(&config).await.expect("opens"));
    let first = Registry::open(first).await.expect("opens");
    (first, Registry::open(second).await.expect("opens"))
}
