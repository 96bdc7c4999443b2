//! A server's own certificate that stands in its `ca_file` is trusted as it is.
//!
//! `openssl req -x509` writes `CA:TRUE` into a self-signed certificate, and webpki refuses a CA's
//! certificate as a server's own. Whoever lists that very certificate means that very server. So
//! the same bytes, self-signed, under a name that fits and in its time, are accepted; everything
//! else is judged as ever, by webpki.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::provider::provider;

#[derive(Debug)]
pub(super) struct ListedOrSigned {
    listed: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
}

impl ListedOrSigned {
    /// Trusts these certificates, and what they signed.
    ///
    /// # Errors
    /// None of them can be used.
    pub(super) fn new(listed: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(listed.iter().cloned());
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| format!("no certificate in it can be used: {error}"))?;
        Ok(ListedOrSigned { listed, signed })
    }

    fn accept_as_it_is(
        &self,
        own: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Option<Result<ServerCertVerified, Error>> {
        if !self.listed.iter().any(|listed| listed == own) {
            return None;
        }
        let (_, read) = X509Certificate::from_der(own).ok()?;
        if read.issuer() != read.subject() {
            return None;
        }
        Some(
            in_its_time(&read, now)
                .and_then(|()| verify_server_name(&ParsedCertificate::try_from(own)?, name))
                .map(|()| ServerCertVerified::assertion()),
        )
    }
}

fn in_its_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let wrong = if now < validity.not_before.timestamp() {
        CertificateError::NotValidYet
    } else if now > validity.not_after.timestamp() {
        CertificateError::Expired
    } else {
        return Ok(());
    };
    Err(Error::InvalidCertificate(wrong))
}

impl ServerCertVerifier for ListedOrSigned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The signature of the handshake, checked below as for any other, proves that the server
        // holds the key.
        self.signed
            .verify_server_cert(own, between, name, ocsp, now)
            .or_else(|error| self.accept_as_it_is(own, name, now).unwrap_or(Err(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn made(ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("a name");
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signs").der().clone()
    }

    fn judged(verifier: &ListedOrSigned, own: &CertificateDer<'_>, name: &str, at: u64) -> String {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        match verifier.verify_server_cert(own, &[], &name, &[], now) {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn only_the_very_certificate_is_accepted_and_only_under_its_name() {
        const NOW: u64 = 1_800_000_000;
        for ca in [true, false] {
            let (own, other) = (made(ca), made(ca));
            let verifier = ListedOrSigned::new(vec![own.clone()]).expect("usable");
            assert_eq!(judged(&verifier, &own, "a.test", NOW), "ok");
            assert!(judged(&verifier, &own, "b.test", NOW).contains("NotValidForName"));
            assert_ne!(judged(&verifier, &other, "a.test", NOW), "ok");
            // rcgen's certificates begin in 1975 and end in 4096.
            assert!(judged(&verifier, &own, "a.test", 3_600).contains("NotValidYet"));
            assert!(judged(&verifier, &own, "a.test", 99_999_999_999).contains("Expired"));
        }
    }
}
