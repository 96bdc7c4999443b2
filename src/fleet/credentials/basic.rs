//! `basic`: HTTP Basic (RFC 7617), sent with every request; Kyuubi never asks for it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::HeaderValue;
use http_body_util::Full;
use secrecy::ExposeSecret as _;

use super::credential::{Credential, Renewal, Signing, Stamp, Unsigned, authorize};
use super::kept::Kept;
use crate::live::Living;
use crate::observe::exchange::Exchange;

#[derive(Debug)]
pub(super) struct Basic {
    username: String,
    password: Kept,
}

impl Basic {
    pub(super) fn new(username: String, password: Kept) -> Self {
        Basic { username, password }
    }

    fn put_into(&self, request: &mut Request<Full<Bytes>>) -> Result<Stamp, Unsigned> {
        let (password, stamp) = self.password.current();
        let text = format!("{}:{}", self.username, password.expose_secret());
        // Base64 can stand in any header.
        if let Ok(value) = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))) {
            authorize(request, value);
        }
        Ok(stamp)
    }
}

impl Credential for Basic {
    fn sign<'a>(&'a self, request: &'a mut Request<Full<Bytes>>, _: &'a Exchange) -> Signing<'a> {
        Box::pin(std::future::ready(self.put_into(request)))
    }

    fn refused(&self, _: Stamp) {
        self.password.look();
    }

    fn renewed(&self, stamp: Stamp) -> Renewal<'_> {
        Box::pin(std::future::ready(self.password.current().1 > stamp))
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        self.password.living().into_iter().collect()
    }
}
