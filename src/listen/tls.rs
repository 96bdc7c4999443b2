//! TLS towards clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use crate::config::BuildProblem;
use crate::config::checked::ServerTls;
use crate::observe::metrics::Metrics;
use crate::upstream::tls::{certificates, private_key, provider};

/// Makes the acceptor, and notes when the certificate ends.
///
/// # Errors
/// Every problem, under the keys of the file.
pub fn acceptor(
    config: &ServerTls,
    metrics: &Metrics,
) -> Result<tokio_rustls::TlsAcceptor, Vec<BuildProblem>> {
    let mut problems = Vec::new();
    let chain = certificates(&config.cert_file);
    let key = private_key(&config.key_file);
    let mut fail = |key: &str, what: String, remedy: &str| {
        problems.push(BuildProblem::new(&["server", "tls", key], what, remedy))
    };
    if let Err(why) = &chain {
        fail(
            "cert_file",
            why.clone(),
            "name a PEM file with the certificate chain",
        );
    }
    if let Err(why) = &key {
        fail(
            "key_file",
            why.clone(),
            "name a PEM file with the private key",
        );
    }
    let (Ok(chain), Ok(key)) = (chain, key) else {
        return Err(problems);
    };
    if let Some(expiry) = chain.first().and_then(|first| expiry(first)) {
        metrics
            .tls_certificate_expiry
            .with_label_values(&["server", "default"])
            .set(expiry);
    }
    let versions = if config.tls13_only {
        vec![&TLS13]
    } else {
        vec![&TLS13, &TLS12]
    };
    let made = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    match made {
        Ok(mut tls) => {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Arc::new(tls).into())
        }
        Err(error) => {
            fail(
                "key_file",
                format!("certificate and key don't go together: {error}"),
                "name the key that the certificate was made for",
            );
            Err(problems)
        }
    }
}

/// Returns when a certificate ends, Unix time.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit a double for millions of years"
)]
fn expiry(der: &[u8]) -> Option<f64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp() as f64)
}
