//! When a certificate is valid.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::observe::metrics::unix_now;

/// From when until when, Unix time.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit a double for millions of years"
)]
fn times(certificate: &X509Certificate<'_>) -> (f64, f64) {
    let validity = certificate.validity();
    (
        validity.not_before.timestamp() as f64,
        validity.not_after.timestamp() as f64,
    )
}

/// Returns when a certificate ends, Unix time, also if it has; `None` if it can't be read.
pub(super) fn ends(der: &CertificateDer<'_>) -> Option<f64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(times(&certificate).1)
}

/// Returns when a certificate ends, Unix time.
///
/// # Errors
/// It is not valid now, in a sentence.
pub(super) fn validity(der: &CertificateDer<'_>) -> Result<f64, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der)
        .map_err(|error| format!("the certificate can't be read: {error}"))?;
    let (from, until) = times(&certificate);
    let validity = certificate.validity();
    if until < unix_now() {
        return Err(format!("the certificate expired at {}", validity.not_after));
    }
    if from > unix_now() {
        return Err(format!(
            "the certificate is not valid before {}",
            validity.not_before
        ));
    }
    Ok(until)
}
