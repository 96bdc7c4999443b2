//! The certificate that clients see. It is read again when its files change; connections that are
//! open go on with the one that they began with.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::CertificateDer;

use super::provider::provider;
use super::tls::{certificates, private_key};
use super::validity::validity;
use crate::config::BuildProblem;
use crate::config::checked::ServerTls;
use crate::live::{Living, Source};

/// The certificate that is shown, and what makes handshakes with it.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    pair: Arc<Source<Pair>>,
    config: Arc<ServerConfig>,
}

/// A certificate with its key.
#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// Unix time.
    expires: f64,
}

#[derive(Debug)]
struct Newest(Arc<Source<Pair>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get().key.clone())
    }
}

/// The key that is to blame, what is wrong, and what to do about it.
type Blame = (&'static str, String, &'static str);

impl ServerCertificate {
    /// Reads certificate and key of `server` or `admin`. `problems` gets what keeps nobody from
    /// using them.
    ///
    /// # Errors
    /// Every other problem, under the keys of the file.
    pub fn open(
        config: &ServerTls,
        listener: &'static str,
        problems: &mut Vec<BuildProblem>,
    ) -> Result<ServerCertificate, Vec<BuildProblem>> {
        let problem =
            |(key, why, remedy): Blame| BuildProblem::new(&[listener, "tls", key], why, remedy);
        let all = |faults: Vec<Blame>| faults.into_iter().map(problem).collect::<Vec<_>>();
        read(config).map_err(all)?;
        let files = vec![config.cert_file.clone(), config.key_file.clone()];
        let again = config.clone();
        // The word that dashboards know from the time when there was one certificate.
        let name = if listener == "server" {
            "default"
        } else {
            listener
        };
        let pair = Source::open("server_certificate", name, files, move |_| {
            let words = |faults: Vec<Blame>| {
                let whys: Vec<String> = faults.into_iter().map(|(_, why, _)| why).collect();
                whys.join("; ")
            };
            read(&again).map_err(words)
        });
        let pair = pair.map_err(|why| all(vec![("cert_file", why, "name PEM files")]))?;
        problems.extend(of_the_chain(listener, config, &pair.get().key.cert));
        let versions = match config.tls13_only {
            true => vec![&TLS13],
            false => vec![&TLS13, &TLS12],
        };
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|error| all(vec![("min_version", error.to_string(), "leave it out")]))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Newest(pair.clone())));
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerCertificate {
            pair,
            config: Arc::new(tls),
        })
    }

    /// Returns what makes handshakes.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Arc<dyn Living> {
        self.pair.clone()
    }

    /// Returns when the certificate in use ends, Unix time.
    pub fn ends(&self) -> f64 {
        self.pair.get().expires
    }
}

/// Tells what of a chain, behind the certificate itself, is not valid now. Clients may know another
/// way, so it keeps no certificate from being shown.
fn of_the_chain(
    listener: &str,
    config: &ServerTls,
    chain: &[CertificateDer<'_>],
) -> Option<BuildProblem> {
    let why = chain.iter().skip(1).find_map(|one| validity(one).err())?;
    let file = config.cert_file.display();
    let what = format!("{file}: of what stands behind the first one, {why}");
    let remedy = "name the chain that the CA gives out now";
    Some(BuildProblem::new(&[listener, "tls", "cert_file"], what, remedy).of_the_time())
}

fn read(config: &ServerTls) -> Result<Pair, Vec<Blame>> {
    let for_chain = "name a PEM file with the certificate chain";
    let for_key = "name a PEM file with the private key";
    let chain = certificates(&config.cert_file).map_err(|why| ("cert_file", why, for_chain));
    let key = private_key(&config.key_file).map_err(|why| ("key_file", why, for_key));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        let why = format!("certificate and key don't go together: {error}");
        vec![(
            "key_file",
            why,
            "name the key that the certificate was made for",
        )]
    })?;
    let expires = validity(&key.cert[0]).map_err(|why| {
        let why = format!("{}: {why}", config.cert_file.display());
        vec![("cert_file", why, "name a certificate that is valid now")]
    })?;
    Ok(Pair {
        key: Arc::new(key),
        expires,
    })
}
