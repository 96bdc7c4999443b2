//! The gateway's side of a helper: starts it, asks it, and ends it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::endpoint::{Failure, Granted, LIMIT};
use super::talk::Said;
use super::words;
use crate::config::checked::Kerberos;

/// This very program, also after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// The hidden command.
const COMMAND: &str = "kerberos-session";

/// What a helper gets of the gateway's environment: what MIT Kerberos and the linker read. The rest
/// may hold secrets that are none of its business.
const HANDED_ON: [&str; 2] = ["KRB5", "LD_LIBRARY_PATH"];

/// Tickets, in a process of their own. Ends with its last owner.
#[derive(Debug)]
pub(super) struct Session {
    orders: Sender<oneshot::Sender<Said>>,
    child: Arc<Mutex<Child>>,
}

/// Begins a session: with tickets, or not at all.
pub(super) async fn open(config: &Kerberos) -> Result<Granted<Arc<Session>>, Failure> {
    let session = Session::start(config).map_err(|error| {
        Failure::trouble(format!("the helper for Kerberos can't be started: {error}"))
    })?;
    match timeout(LIMIT, session.ask()).await {
        Ok(Some(Said::Ready { life_s })) => Ok(Granted {
            login: Arc::new(session),
            life: Duration::from_secs(life_s),
        }),
        Ok(Some(Said::Failed { code, words })) => Err(words::failure(code, &words, config)),
        Ok(_) => Err(Failure::trouble("the helper for Kerberos ended")),
        Err(_) => Err(Failure::trouble(format!(
            "no KDC answered within {} s",
            LIMIT.as_secs()
        ))),
    }
}

impl Session {
    fn start(config: &Kerberos) -> std::io::Result<Session> {
        let handed_on = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            HANDED_ON.iter().any(|known| name.starts_with(known))
        });
        let mut keytab = std::ffi::OsString::from("FILE:");
        keytab.push(&config.keytab);
        let mut child = Command::new(PROGRAM)
            .args([
                COMMAND,
                "--principal",
                &config.principal,
                "--spn",
                &config.spn,
            ])
            .env_clear()
            .envs(handed_on)
            .env("KRB5_CLIENT_KTNAME", keytab)
            .env("KRB5CCNAME", "MEMORY:")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A Ctrl-C is the gateway's: it still has requests to finish.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let (orders, inbox) = channel();
        let ending = child.clone();
        std::thread::Builder::new()
            .name("kerberos".to_owned())
            .spawn(move || {
                if let (Some(stdin), Some(stdout)) = (stdin, stdout) {
                    talk(stdin, stdout, &inbox);
                }
                end(&ending);
            })?;
        Ok(Session { orders, child })
    }

    /// Says a line, and returns the answer; `None` if the helper is gone.
    async fn ask(&self) -> Option<Said> {
        let (reply, said) = oneshot::channel();
        self.orders.send(reply).ok()?;
        said.await.ok()
    }

    /// Returns a token for one request, in base64.
    ///
    /// # Errors
    /// Why this session gives none any more.
    pub(super) async fn token(&self) -> Result<String, String> {
        match timeout(LIMIT, self.ask()).await {
            Ok(Some(Said::Token(token))) => Ok(token),
            Ok(Some(Said::Failed { words, .. })) => Err(words),
            Ok(_) => Err("the helper for Kerberos ended".to_owned()),
            Err(_) => Err("the helper for Kerberos does not answer".to_owned()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever talks to it finds the pipe closed, and clears up.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
    }
}

/// Carries lines to and fro until either side is gone.
fn talk(mut stdin: ChildStdin, stdout: ChildStdout, inbox: &Receiver<oneshot::Sender<Said>>) {
    let mut lines = BufReader::new(stdout).lines();
    for reply in inbox {
        if stdin.write_all(b"\n").is_err() {
            return;
        }
        let said = lines.next().and_then(|line| Said::from_line(&line.ok()?));
        let Some(said) = said else { return };
        // Whoever asked may have stopped waiting.
        let _ = reply.send(said);
    }
}

/// Ends a helper, and takes it off the system's list.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}
