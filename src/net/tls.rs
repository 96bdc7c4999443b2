//! TLS towards clusters: whom to trust, what to show.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::listed::ListedOrSigned;
use super::provider::provider;
use super::validity::{ends, validity};
use crate::config::BuildProblem;
use crate::config::checked::ClusterTls;
use crate::live::{Living, Source};

/// What a connector needs.
#[derive(Clone)]
pub struct ClientTls {
    made: Made,
    /// The name to verify instead of the URL's host.
    pub server_name: Option<String>,
}

#[derive(Clone)]
enum Made {
    /// From nothing that changes.
    Once(Arc<ClientConfig>),
    /// From files, which are read again when they change.
    FromFiles(Arc<Source<Assembled>>),
}

/// What files make.
struct Assembled {
    config: Arc<ClientConfig>,
    /// When the certificate that is shown ends, Unix time.
    ends: Option<f64>,
    /// Why it is of no use at this time, if it is not.
    untimely: Option<Blame>,
}

impl ClientTls {
    /// Returns what makes handshakes: new connections are made with the files as they are now.
    pub fn connector(&self) -> TlsConnector {
        match &self.made {
            Made::Once(config) => config.clone().into(),
            Made::FromFiles(source) => source.get().config.clone().into(),
        }
    }

    /// Returns when the certificate that is shown ends, Unix time; `None` if none is.
    pub fn certificate_ends(&self) -> Option<f64> {
        match &self.made {
            Made::Once(_) => None,
            Made::FromFiles(source) => source.get().ends,
        }
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Option<Arc<dyn Living>> {
        match &self.made {
            Made::Once(_) => None,
            Made::FromFiles(source) => Some(source.clone()),
        }
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The system's roots, read once; Mozilla's where the system has none (a container without a
/// certificate package).
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(store)
        })
        .clone()
}

/// Makes the TLS of a cluster. `path` is where the cluster stands in the file, for problems.
pub fn client(
    config: &ClusterTls,
    path: &[&str],
    problems: &mut Vec<BuildProblem>,
) -> Option<ClientTls> {
    let name = path.last().copied().unwrap_or_default();
    open(
        "cluster_tls",
        name,
        config,
        &[path, &["tls"]].concat(),
        problems,
    )
}

/// Makes TLS of files that are known under a kind and a name; `path` is where its keys stand.
pub fn open(
    kind: &'static str,
    name: &str,
    config: &ClusterTls,
    path: &[&str],
    problems: &mut Vec<BuildProblem>,
) -> Option<ClientTls> {
    let files = files_of(config);
    let made = match assemble(config) {
        Err((key, why, remedy)) => {
            problems.push(BuildProblem::new(&[path, &[key]].concat(), why, remedy));
            return None;
        }
        Ok(made) if files.is_empty() => Made::Once(made.config),
        Ok(made) => {
            if let Some((key, why, remedy)) = made.untimely {
                let problem = BuildProblem::new(&[path, &[key]].concat(), why, remedy);
                problems.push(problem.of_the_time());
            }
            match Source::open(kind, name, files, reader(config.clone())) {
                Ok(source) => Made::FromFiles(source),
                Err(why) => {
                    let remedy = "name PEM files that can be read";
                    problems.push(BuildProblem::new(path, why, remedy));
                    return None;
                }
            }
        }
    };
    Some(ClientTls {
        made,
        server_name: config.server_name.clone(),
    })
}

/// Makes what reads the files. What is there at first is used whatever the time, as there is nothing
/// else; later, what is valid no more, or not yet, takes the place of nothing.
fn reader(
    config: ClusterTls,
) -> impl Fn(&[Vec<u8>]) -> Result<Assembled, String> + Send + Sync + 'static {
    let is_first = AtomicBool::new(true);
    move |_| {
        let made = assemble(&config).map_err(|(_, why, _)| why)?;
        match (&made.untimely, is_first.swap(false, Ordering::Relaxed)) {
            (Some((_, why, _)), false) => Err(why.clone()),
            _ => Ok(made),
        }
    }
}

fn files_of(config: &ClusterTls) -> Vec<PathBuf> {
    let pair = config
        .client_cert
        .iter()
        .flat_map(|(cert, key)| [cert, key]);
    config.ca_file.iter().chain(pair).cloned().collect()
}

/// The key that is to blame, what is wrong, and what to do about it.
type Blame = (&'static str, String, &'static str);

fn assemble(config: &ClusterTls) -> Result<Assembled, Blame> {
    let (mut end, mut untimely) = (None, None);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider of this crate supports TLS 1.2 and 1.3");
    let builder = match &config.ca_file {
        _ if config.insecure_skip_verify => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnything(provider()))),
        None => builder.with_root_certificates(system_roots()),
        Some(file) => {
            let remedy = "name a PEM file with the CA's certificate, or the server's own";
            let fail = |why| ("ca_file", why, remedy);
            let listed = certificates(file).map_err(fail)?;
            // A bundle may hold some that are old.
            let validities: Vec<_> = listed.iter().map(validity).collect();
            if validities.iter().all(Result::is_err) {
                let why = validities.into_iter().find_map(Result::err);
                let remedy = "name one that is valid now";
                untimely = why.map(|why| ("ca_file", of_file(file, &why), remedy));
            }
            let verifier = ListedOrSigned::new(listed).map_err(fail)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut tls = match &config.client_cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let remedy = "name PEM files of a certificate and its key";
            let fail = |why| ("cert_file", why, remedy);
            let chain = certificates(cert).map_err(fail)?;
            end = ends(&chain[0]);
            if let Some(why) = chain.iter().find_map(|one| validity(one).err()) {
                let remedy = "name a certificate that is valid now";
                untimely = Some(("cert_file", of_file(cert, &why), remedy));
            }
            let key = private_key(key).map_err(fail)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| fail(error.to_string()))?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Assembled {
        config: Arc::new(tls),
        ends: end,
        untimely,
    })
}

fn of_file(file: &Path, why: &str) -> String {
    format!("{}: {why}", file.display())
}

/// Makes TLS for something that does not speak HTTP.
///
/// # Errors
/// Why not, in a sentence.
pub fn bare(config: &ClusterTls) -> Result<ClientConfig, String> {
    let mut tls = assemble(config).map_err(|(_, why, _)| why)?.config;
    Arc::make_mut(&mut tls).alpn_protocols.clear();
    Ok(Arc::unwrap_or_clone(tls))
}

/// Makes TLS that trusts the system's roots, for key sets.
pub fn system_client() -> Option<ClientTls> {
    client(&ClusterTls::default(), &[], &mut Vec::new())
}

/// Reads the certificates of a PEM file.
///
/// # Errors
/// Why there are none, in a sentence.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text =
        std::fs::read(file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(format!("{} holds no certificate", file.display())),
        Err(error) => Err(format!("{} is no PEM file: {error}", file.display())),
    }
}

/// Reads the private key of a PEM file.
///
/// # Errors
/// Why there is none, in a sentence.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text =
        std::fs::read(file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| format!("{} holds no private key", file.display()))
}

/// `insecure_skip_verify`: any certificate will do; signatures are still checked.
#[derive(Debug)]
struct AcceptAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
