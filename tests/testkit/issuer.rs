//! A token endpoint, and a front before a simulated cluster that lets in only who has its tokens.
//!
//! Everything secret that it knows begins with [`SECRET`], which is looked for wherever the
//! gateway writes anything.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use livy_gateway::sandbox::TOKEN;

use crate::wire::{Head, Reply, Request, exchange, read_body, read_head};

/// How every secret begins.
pub use crate::secrets::ENDPOINT_SECRET as SECRET;
/// What is exchanged for tokens.
pub const KEY: &str = "issued-secret-key";

/// What the token endpoint does.
#[derive(Clone, Debug)]
pub enum Mood {
    /// Gives tokens to whoever brings [`KEY`], and refuses others, quoting what they brought.
    Fair,
    /// Closes the connection.
    Down,
    /// Answers with a status and a `Location`.
    Redirect(String),
    /// Answers with a status and `Retry-After`.
    Busy(u16, u64),
}

#[derive(Debug)]
struct Book {
    mood: Mood,
    life: Duration,
    takes: Duration,
    /// Requests for tokens: `Authorization`, form.
    asked: Vec<(String, String)>,
    /// Tokens that the front lets in, and until when.
    good: HashMap<String, Instant>,
    /// The next submission is turned away.
    refuses_a_post: bool,
    /// Requests to the front: method, whether it was let in.
    seen: Vec<(String, bool)>,
    /// Every token that the front saw.
    seen_tokens: Vec<String>,
}

/// Both, until the test ends.
#[derive(Clone, Debug)]
pub struct Issuer {
    book: Arc<Mutex<Book>>,
    /// Where the token endpoint listens.
    pub endpoint: SocketAddr,
    /// Where the front listens.
    pub front: SocketAddr,
}

impl Issuer {
    /// Starts both, in front of the simulated clusters at an address.
    pub fn start(behind: SocketAddr) -> Issuer {
        let book = Arc::new(Mutex::new(Book {
            mood: Mood::Fair,
            life: Duration::from_secs(3600),
            takes: Duration::ZERO,
            asked: Vec::new(),
            good: HashMap::new(),
            refuses_a_post: false,
            seen: Vec::new(),
            seen_tokens: Vec::new(),
        }));
        let (ours, theirs) = (book.clone(), book.clone());
        Issuer {
            endpoint: listen(move |stream| give(&ours, stream)),
            front: listen(move |stream| let_in(&theirs, behind, stream)),
            book,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no panic holds it")
    }

    /// Changes what the token endpoint does from now on.
    pub fn mood(&self, mood: Mood) {
        self.book().mood = mood;
    }

    /// From now on tokens live this long.
    pub fn life(&self, life: Duration) {
        self.book().life = life;
    }

    /// From now on an exchange takes this long.
    pub fn takes(&self, takes: Duration) {
        self.book().takes = takes;
    }

    /// How often a token was asked for.
    pub fn asked(&self) -> usize {
        self.book().asked.len()
    }

    /// The `Authorization` and the form of the last request for a token.
    pub fn last_form(&self) -> (String, String) {
        self.book().asked.last().cloned().expect("was asked")
    }

    /// Lets a token in for an hour.
    pub fn accept(&self, token: &str) {
        let until = Instant::now() + Duration::from_secs(3600);
        self.book().good.insert(token.to_owned(), until);
    }

    /// No token that was given so far is let in any more.
    pub fn revoke(&self) {
        self.book().good.clear();
    }

    /// The next submission is turned away, and so is everybody with its token.
    pub fn refuse_a_post(&self) {
        self.book().refuses_a_post = true;
    }

    /// How many requests of a method the front let in, or turned away.
    pub fn seen(&self, method: &str, let_in: bool) -> usize {
        let fits = |one: &&(String, bool)| one.0 == method && one.1 == let_in;
        self.book().seen.iter().filter(fits).count()
    }

    /// Every token that the front saw.
    pub fn tokens(&self) -> Vec<String> {
        self.book().seen_tokens.clone()
    }
}

/// Serves each connection in a thread.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn header(headers: &[(String, String)], name: &str) -> String {
    let found = headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} Told\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

const JSON: &str = "Content-Type: application/json\r\n";

/// The token endpoint.
fn give(book: &Mutex<Book>, mut stream: TcpStream) {
    let Ok(Head { headers, rest, .. }) = read_head(&mut stream) else {
        return;
    };
    let form =
        String::from_utf8_lossy(&read_body(&mut stream, &headers, rest, Some(0))).into_owned();
    let login = header(&headers, "authorization");
    let (mood, takes, life, number) = {
        let mut book = book.lock().expect("no panic holds it");
        book.asked.push((login.clone(), form.clone()));
        (book.mood.clone(), book.takes, book.life, book.asked.len())
    };
    std::thread::sleep(takes);
    match mood {
        Mood::Down => {}
        Mood::Redirect(to) => answer(&mut stream, 307, &format!("Location: {to}\r\n"), b""),
        Mood::Busy(status, wish) => {
            answer(
                &mut stream,
                status,
                &format!("Retry-After: {wish}\r\n"),
                b"",
            );
        }
        Mood::Fair if !brings_the_key(&login, &form) => {
            let text = format!(
                "{{\"errorCode\": \"BXNIM0415E\", \"errorMessage\": \"Provided API key could not be found: {form}\"}}"
            );
            answer(&mut stream, 400, JSON, text.as_bytes());
        }
        Mood::Fair => {
            let token = format!("{SECRET}-token-{number}");
            let text = format!(
                "{{\"access_token\": \"{token}\", \"token_type\": \"Bearer\", \"expires_in\": {}}}",
                life.as_secs()
            );
            book.lock()
                .expect("no panic holds it")
                .good
                .insert(token, Instant::now() + life);
            answer(&mut stream, 200, JSON, text.as_bytes());
        }
    }
}

fn brings_the_key(login: &str, form: &str) -> bool {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("gateway:{KEY}"));
    login == format!("Basic {pair}")
        || form
            .split('&')
            .any(|pair| pair == format!("apikey={KEY}") || pair == format!("client_secret={KEY}"))
}

/// The front.
fn let_in(book: &Mutex<Book>, behind: SocketAddr, mut stream: TcpStream) {
    let Ok(Head {
        first,
        headers,
        rest,
    }) = read_head(&mut stream)
    else {
        return;
    };
    let body = read_body(&mut stream, &headers, rest, Some(0));
    let mut words = first.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let login = header(&headers, "authorization");
    let token = login.strip_prefix("Bearer ").unwrap_or_default();
    let good = {
        let mut book = book.lock().expect("no panic holds it");
        if method == "POST" && std::mem::take(&mut book.refuses_a_post) {
            book.good.remove(token);
        }
        let good = book
            .good
            .get(token)
            .is_some_and(|until| *until > Instant::now());
        book.seen.push((method.to_owned(), good));
        if !token.is_empty() {
            book.seen_tokens.push(token.to_owned());
        }
        good
    };
    if !good {
        // As IBM's own software says it.
        let text = br#"{"errors": [{"code": "unauthorized", "message": "no"}], "trace": "t"}"#;
        return answer(&mut stream, 401, JSON, text);
    }
    let mut request = Request {
        method,
        path,
        body: (!body.is_empty()).then_some(body),
        ..Request::default()
    };
    for name in ["content-type", "x-requested-by"] {
        request = request.header(name, &header(&headers, name));
    }
    let request = request.bearer(TOKEN);
    let Ok(onward) = TcpStream::connect(behind) else {
        return;
    };
    let Reply {
        status,
        headers,
        body,
    } = exchange(onward, &request.to_bytes());
    let kind = format!("Content-Type: {}\r\n", header(&headers, "content-type"));
    answer(&mut stream, status, &kind, &body);
}
