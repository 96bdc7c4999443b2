//! `bearer`: a token that somebody else keeps fresh, such as a sidecar that writes it into a file.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use secrecy::ExposeSecret as _;

use super::credential::{Credential, Renewal, Signing, Stamp, Unsigned, authorize, bearer_value};
use super::kept::Kept;
use crate::live::Living;
use crate::observe::exchange::Exchange;

#[derive(Debug)]
pub(super) struct Bearer {
    token: Kept,
}

impl Bearer {
    pub(super) fn new(token: Kept) -> Self {
        Bearer { token }
    }

    fn put_into(&self, request: &mut Request<Full<Bytes>>) -> Result<Stamp, Unsigned> {
        let (token, stamp) = self.token.current();
        // The configuration was checked, and a file that holds no token changes nothing.
        if let Some(value) = bearer_value(token.expose_secret()) {
            authorize(request, value);
        }
        Ok(stamp)
    }
}

impl Credential for Bearer {
    fn sign<'a>(&'a self, request: &'a mut Request<Full<Bytes>>, _: &'a Exchange) -> Signing<'a> {
        Box::pin(std::future::ready(self.put_into(request)))
    }

    fn refused(&self, _: Stamp) {
        self.token.look();
    }

    fn renewed(&self, stamp: Stamp) -> Renewal<'_> {
        Box::pin(std::future::ready(self.token.current().1 > stamp))
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        self.token.living().into_iter().collect()
    }
}
