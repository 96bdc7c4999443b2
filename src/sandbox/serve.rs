//! Serving: which double a request is for, and what becomes of it on the way.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use livy_dialect::Flavor;
use tokio::net::{TcpListener, TcpStream};

use super::asked::Asked;
use super::double::Double;
use super::knobs::{self, Moment};
use super::told::{HungUp, Told};
use super::{control, ibm, kyuubi, livy};

/// Largest request body that a double reads.
const LARGEST_BODY: usize = 4 << 20;

impl Double {
    async fn answer(&self, asked: Asked) -> Result<Told, HungUp> {
        let operation = asked.operation();
        let generation = self.jobs().generation().ok_or(HungUp)?;
        self.control.remember(&asked);
        let fault = self.control.next(operation);
        if let Some(answer) = knobs::act(fault.as_ref(), Moment::Before).await? {
            return Ok(answer);
        }
        self.is_still(generation)?;
        let told = match self.flavor {
            Flavor::Livy | Flavor::Knox | Flavor::Hdinsight => livy::answer(self, &asked),
            Flavor::Ibm => ibm::answer(self, &asked),
            Flavor::Kyuubi => kyuubi::answer(self, &asked),
        };
        let made_up = knobs::act(fault.as_ref(), Moment::After).await?;
        self.is_still(generation)?;
        Ok(made_up.unwrap_or(told))
    }
}

/// The simulated clusters behind one address.
#[derive(Clone, Debug)]
pub struct Sandbox {
    doubles: Arc<Vec<Double>>,
}

impl Sandbox {
    /// Makes doubles of these flavors; all of them if none is named.
    pub fn new(flavors: &[Flavor]) -> Self {
        let flavors = if flavors.is_empty() {
            &Flavor::ALL[..]
        } else {
            flavors
        };
        Sandbox {
            doubles: Arc::new(flavors.iter().map(|flavor| Double::new(*flavor)).collect()),
        }
    }

    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            if let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(self.clone().connection(tcp));
            }
        }
    }

    async fn connection(self, tcp: TcpStream) {
        let service = service_fn(|request| {
            let sandbox = self.clone();
            async move { sandbox.respond(request).await }
        });
        // A double that hangs up ends its connection with an error: that is its purpose.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, HungUp> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY)
            .collect()
            .await
            .map_err(|_| HungUp)?
            .to_bytes();
        let path = parts.uri.path();
        if let Some(rest) = path.strip_prefix("/_sandbox/") {
            return Ok(response(control::answer(
                &self.doubles,
                rest,
                &parts.method,
                &body,
            )));
        }
        let Some((double, rest)) = self.find(path) else {
            return Ok(response(Told::new(404, "text/html;charset=utf-8", "")));
        };
        let asked = Asked {
            method: parts.method,
            segments: rest
                .split('/')
                .filter(|part| !part.is_empty())
                .map(decode)
                .collect(),
            doubled_slash: rest.contains("//"),
            slash: rest.ends_with('/') && rest.len() > 1,
            query: parts
                .uri
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(pair)
                .collect(),
            headers: parts.headers,
            body,
        };
        double.answer(asked).await.map(response)
    }

    /// Finds the double of a path, and the path below its base.
    fn find<'a>(&self, path: &'a str) -> Option<(&Double, &'a str)> {
        let bases = [
            ("/gateway/default/livy/v1", Flavor::Knox),
            ("/gateway/default/livy", Flavor::Knox),
            (
                "/v3/analytics_engines/11111111-2222-3333-4444-555555555555/livy",
                Flavor::Ibm,
            ),
            // Beside its Livy: the application API.
            (
                "/v3/analytics_engines/11111111-2222-3333-4444-555555555555",
                Flavor::Ibm,
            ),
            ("/api/v1", Flavor::Kyuubi),
            ("/livy", Flavor::Hdinsight),
            ("", Flavor::Livy),
        ];
        bases.into_iter().find_map(|(base, flavor)| {
            let rest = path
                .strip_prefix(base)
                .filter(|rest| rest.starts_with('/'))?;
            let double = self.doubles.iter().find(|double| double.flavor == flavor)?;
            Some((double, rest))
        })
    }
}

/// Binds an address and serves doubles there; returns the address that was really bound.
///
/// # Errors
/// The address can't be bound.
pub async fn start(listen: SocketAddr, flavors: &[Flavor]) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(Sandbox::new(flavors).serve(listener));
    Ok(address)
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((decode(name), decode(value)))
}

fn response(told: Told) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(told.body.into()));
    *response.status_mut() =
        StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in told.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
