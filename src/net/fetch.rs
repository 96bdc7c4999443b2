//! Fetching one small document, such as a key set. Bounded in size and time, follows no redirect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::connect::Connector;
use super::tls;

/// A key set is a few KiB.
const LARGEST: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(10);

/// Fetches documents.
#[derive(Clone, Debug)]
pub struct Fetcher(Client<Connector, Empty<Bytes>>);

impl Fetcher {
    /// Makes a fetcher that trusts the system's roots.
    pub fn new() -> Self {
        let connector =
            Connector::new(tls::system_client(), Duration::from_secs(3), Arc::default());
        Fetcher(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Gets a document.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    pub async fn get(&self, uri: &http::Uri) -> Result<Bytes, String> {
        let fetch = async {
            let response = self
                .0
                .get(uri.clone())
                .await
                .map_err(|error| super::cause::in_words(&error))?;
            if !response.status().is_success() {
                return Err(format!("{uri} answered {}", response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), LARGEST)
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok(body.to_bytes())
        };
        tokio::time::timeout(LIMIT, fetch)
            .await
            .unwrap_or_else(|_| Err(format!("{uri} did not answer within {LIMIT:?}")))
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Fetcher::new()
    }
}
