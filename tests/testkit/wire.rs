//! HTTP/1.1 on a stream, byte by byte: a client that can send what no library would.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value;

/// A request in the making.
#[derive(Clone)]
pub struct Request<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// Headers beside those that every request has.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request {
            method: "GET",
            path: "/",
            headers: Vec::new(),
            body: None,
        }
    }
}

impl<'a> Request<'a> {
    /// Makes a GET.
    pub fn get(path: &'a str) -> Self {
        Request {
            path,
            ..Request::default()
        }
    }

    /// Makes a POST of JSON.
    pub fn post(path: &'a str, body: &Value) -> Self {
        Request::post_bytes(path, body.to_string().as_bytes())
            .header("Content-Type", "application/json")
    }

    /// Makes a POST of anything, without a content type.
    pub fn post_bytes(path: &'a str, body: &[u8]) -> Self {
        Request {
            method: "POST",
            path,
            body: Some(body.to_vec()),
            ..Request::default()
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a user with a password.
    pub fn basic(self, (user, password): (&str, &str)) -> Self {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", &format!("Basic {text}"))
    }

    /// Adds a token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Returns what goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status; 0 if nothing came.
    pub status: u16,
    /// The headers, as they came.
    pub headers: Vec<(String, String)>,
    /// The body, without framing.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns all values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns headers and body, to be searched.
    pub fn whole(&self) -> String {
        format!("{:?}\n{}", self.headers, self.text())
    }

    /// Asserts that this is an error in the gateway's shape, and returns its message.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert!(
            body["retryable"].is_boolean() && body["requestId"].is_string(),
            "{body}"
        );
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"));
        assert!(
            self.header("content-type")
                .is_some_and(|kind| kind.starts_with("application/json"))
        );
        body["msg"].as_str().expect("a message").to_owned()
    }
}

/// Writes a request, reads to the end of the connection.
pub fn exchange(mut stream: impl std::io::Read + std::io::Write, request: &[u8]) -> Reply {
    // The gateway may answer and close before it has read everything; the answer is what counts.
    let _ = stream.write_all(request);
    let _ = stream.flush();
    read_reply(&mut stream)
}

/// The head of a message, and what came behind it.
pub struct Head {
    /// Its first line.
    pub first: String,
    /// The headers, as they came.
    pub headers: Vec<(String, String)>,
    /// What was read of the body.
    pub rest: Vec<u8>,
}

/// Reads the head of a message. An error is what came before the connection ended.
pub fn read_head(stream: &mut impl std::io::Read) -> Result<Head, Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return Err(bytes),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Ok(Head {
        first,
        headers,
        rest: bytes.split_off(end + 4),
    })
}

/// Reads on until a body is as long as `Content-Length` says; `unsaid` where it says nothing, to
/// the end of the connection without that.
pub fn read_body(
    stream: &mut impl std::io::Read,
    headers: &[(String, String)],
    mut body: Vec<u8>,
    unsaid: Option<usize>,
) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let said = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse().ok());
    while said.or(unsaid).is_none_or(|length| body.len() < length) {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => body.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    body
}

/// Reads one answer: a head, and as many bytes as it says.
pub fn read_reply(stream: &mut impl std::io::Read) -> Reply {
    let Head {
        first,
        headers,
        rest,
    } = match read_head(stream) {
        Ok(head) => head,
        Err(body) => {
            return Reply {
                status: 0,
                headers: Vec::new(),
                body,
            };
        }
    };
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    let body = read_body(stream, &headers, rest, None);
    let chunked = headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
    });
    let body = if chunked { without_chunks(&body) } else { body };
    Reply {
        status,
        headers,
        body,
    }
}

/// Takes the framing of `Transfer-Encoding: chunked` away.
fn without_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0);
        let (from, to) = ((at + 2).min(body.len()), (at + 2 + size).min(body.len()));
        whole.extend_from_slice(&body[from..to]);
        if size == 0 {
            break;
        }
        body = &body[(to + 2).min(body.len())..];
    }
    whole
}

/// Makes a client's TLS that trusts one certificate.
pub fn tls_config(ca_file: &Path, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(
        livy_gateway::net::tls::certificates(ca_file).expect("a certificate"),
    );
    let mut config =
        rustls::ClientConfig::builder_with_provider(livy_gateway::net::provider::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// Puts TLS over a connection to localhost.
pub fn over_tls(
    tcp: TcpStream,
    config: rustls::ClientConfig,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("is a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    rustls::StreamOwned::new(connection, tcp)
}
