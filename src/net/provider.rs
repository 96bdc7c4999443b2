//! The cryptography that all TLS here is made of.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

/// Returns the one crypto provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .clone()
}
