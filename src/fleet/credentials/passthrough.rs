//! `passthrough`: the caller's own bearer token goes to the cluster, by explicit choice only.
//!
//! Nothing is kept: the token belongs to the request that brought it and goes when that ends. What
//! has no caller (probes, looks at silent batches, what a crash left open) can't be asked in
//! anybody's name, and is not.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use secrecy::ExposeSecret as _;

use super::credential::{Credential, Signing, Stamp, Unsigned, authorize, bearer_value};
use crate::observe::exchange::Exchange;

#[derive(Debug)]
pub(super) struct Passthrough;

fn put_into(request: &mut Request<Full<Bytes>>, exchange: &Exchange) -> Result<Stamp, Unsigned> {
    let token = exchange.caller_token().ok_or(Unsigned::NoCaller)?;
    let value = bearer_value(token.expose_secret()).ok_or(Unsigned::NoCaller)?;
    authorize(request, value);
    Ok(Stamp::default())
}

impl Credential for Passthrough {
    fn sign<'a>(
        &'a self,
        request: &'a mut Request<Full<Bytes>>,
        exchange: &'a Exchange,
    ) -> Signing<'a> {
        Box::pin(std::future::ready(put_into(request, exchange)))
    }

    fn needs_a_caller(&self) -> bool {
        true
    }
}
