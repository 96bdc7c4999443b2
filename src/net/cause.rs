//! Why a server could not be reached, in words that say what to do: the one place that reads them
//! out of the errors of the libraries below.

use std::error::Error;
use std::io::ErrorKind;

use rustls::CertificateError;
use thiserror::Error as ThisError;

use super::chain::chain;

/// Why there is no connection.
#[derive(Debug, ThisError)]
#[error("{reason}: {detail}")]
pub struct ConnectError {
    /// `dns`, `connect`, `tls` or `timeout_connect`.
    pub reason: &'static str,
    /// The cause in words.
    pub detail: String,
}

/// Says in words what an error comes down to; the error's own text where there are none.
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(words) = words(cause) {
            return words;
        }
        next = below(cause);
    }
    chain(error)
}

/// Returns what lies below an error. An I/O error hides what it was made from, and names as its
/// source what lies below that.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn words(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(connect) = error.downcast_ref::<ConnectError>() {
        return Some(connect.detail.clone());
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls_words(tls));
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let words = match io.kind() {
        ErrorKind::ConnectionRefused => "connection refused: nothing listens there",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "no way to that host from here (network unreachable)"
        }
        ErrorKind::TimedOut => "timed out",
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if io.get_ref().is_none() => {
            "it closed the connection"
        }
        ErrorKind::UnexpectedEof if io.get_ref().is_none() => "it closed the connection",
        _ => return None,
    };
    Some(words.to_owned())
}

/// Says what a failed look-up of a host name means: the system tells only by its text whether the
/// name is wrong or nobody could be asked.
pub(super) fn of_lookup(host: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    if text.contains("Temporary failure") {
        return format!("the name {host:?} can't be looked up at the moment (DNS)");
    }
    format!("no such host: {host:?}")
}

fn tls_words(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error as Tls};
    match error {
        Tls::InvalidCertificate(why) => certificate_words(why),
        Tls::AlertReceived(Alert::CertificateRequired) => {
            "it wants a client certificate (tls.cert_file)".to_owned()
        }
        Tls::AlertReceived(
            Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => "it does not accept our client certificate".to_owned(),
        Tls::AlertReceived(Alert::UnrecognisedName) => {
            "it serves no certificate for that name (tls.server_name)".to_owned()
        }
        Tls::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion)
        | Tls::PeerIncompatible(_) => {
            "it speaks no TLS that we speak (1.2 or 1.3 with modern ciphers)".to_owned()
        }
        Tls::InvalidMessage(_) => "what answers there speaks no TLS: is the URL http?".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn certificate_words(why: &CertificateError) -> String {
    use CertificateError as Cert;
    match why {
        Cert::Expired | Cert::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Cert::NotValidYet | Cert::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is the clock right?".to_owned()
        }
        Cert::UnknownIssuer => {
            "its certificate is signed by an unknown CA (tls.ca_file names the ones to trust)"
                .to_owned()
        }
        Cert::NotValidForNameContext {
            expected,
            presented,
        } if presented.is_empty() => {
            format!(
                "its certificate is for another name: it names no host at all, wanted is {}",
                expected.to_str()
            )
        }
        Cert::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its certificate is for another name: {}, wanted is {}",
            presented
                .iter()
                .map(|name| plain(name))
                .collect::<Vec<_>>()
                .join(", "),
            expected.to_str()
        ),
        Cert::NotValidForName => "its certificate is for another name".to_owned(),
        Cert::Revoked => "its certificate was revoked".to_owned(),
        Cert::BadEncoding => "its certificate can't be read".to_owned(),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is that of an unknown CA; it is accepted only where tls.ca_file holds that very certificate"
                .to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}

/// Takes a name of a certificate out of the spelling of the library: `DnsName("a.test")`.
fn plain(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, InvalidMessage};
    use std::io;

    /// As the handshake hands it on: inside an I/O error.
    fn tls(error: rustls::Error) -> String {
        in_words(&io::Error::new(ErrorKind::InvalidData, error))
    }

    #[test]
    fn certificates_say_what_is_wrong_with_them() {
        let cert = |error| tls(rustls::Error::InvalidCertificate(error));
        assert_eq!(
            cert(CertificateError::Expired),
            "its certificate has expired"
        );
        assert!(cert(CertificateError::UnknownIssuer).contains("unknown CA"));
        assert!(cert(CertificateError::NotValidYet).contains("not valid yet"));
        let named = |presented: &[&str]| {
            cert(CertificateError::NotValidForNameContext {
                expected: rustls_pki_types::ServerName::try_from("knox.test").expect("a name"),
                presented: presented.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        assert_eq!(
            named(&["DnsName(\"a.test\")"]),
            "its certificate is for another name: a.test, wanted is knox.test"
        );
        assert!(named(&[]).contains("no host at all"));
    }

    #[test]
    fn handshakes_say_what_the_other_side_wanted() {
        let alert = |alert| tls(rustls::Error::AlertReceived(alert));
        assert!(alert(AlertDescription::CertificateRequired).contains("client certificate"));
        assert!(alert(AlertDescription::HandshakeFailure).contains("no TLS that we speak"));
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(tls(plain).contains("speaks no TLS"));
    }

    #[test]
    fn connections_say_where_they_ended() {
        for (kind, words) in [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::TimedOut, "timed out"),
            (ErrorKind::NetworkUnreachable, "network unreachable"),
            (ErrorKind::UnexpectedEof, "closed the connection"),
        ] {
            assert!(in_words(&io::Error::from(kind)).contains(words), "{kind}");
        }
        assert_eq!(in_words(&io::Error::other("odd")), "odd");
    }

    #[test]
    fn a_name_that_is_wrong_is_told_from_a_resolver_that_is_away() {
        let words = |text: &str| of_lookup("a.test", &io::Error::other(text.to_owned()));
        let wrong = "failed to lookup address information: Name or service not known";
        assert_eq!(words(wrong), "no such host: \"a.test\"");
        let away = "failed to lookup address information: Temporary failure in name resolution";
        assert!(words(away).contains("at the moment"));
    }
}
