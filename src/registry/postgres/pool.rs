//! Connections: how they are made, how long anybody waits for one, and what is said when the
//! database is away.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed;
use deadpool_postgres::ClientWrapper;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::checked::{ClusterTls, Secret};
use crate::config::postgres_url;
use crate::net::{cause, tls};
use crate::registry::error::RegistryError;

/// How long a request waits for the database, whatever it needs of it.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How long nobody asks a database that did not answer; then one asks for all.
const REST: Duration = Duration::from_secs(1);

/// How often a transaction is begun again that met another one.
const TRIES: usize = 10;

/// How connections are made.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Dialler {
    pub(in crate::registry) url: Secret,
    /// Read for each connection: certificates may be renewed.
    pub(in crate::registry) tls: ClusterTls,
}

impl Dialler {
    /// Reads the URL, as it is now: a password that was changed is used by the next connection.
    fn config(&self) -> Result<Config, Failure> {
        let text = match &self.url.file {
            None => self.url.text.clone(),
            Some(file) => std::fs::read_to_string(file)
                .map(SecretString::from)
                .map_err(|error| Failure::Away(format!("{}: {error}", file.display())))?,
        };
        let config = postgres_url::parse(text.expose_secret());
        config.map_err(|why| Failure::Away(format!("its URL is none: {why}")))
    }

    /// Connects, and lets a task of its own serve the connection. What the server says without being
    /// asked goes to `heard`.
    pub(in crate::registry) async fn dial(
        &self,
        heard: impl Fn(tokio_postgres::Notification) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Failure> {
        let config = self.config()?;
        let failed = |error: Error| Failure::of(&error);
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = Box::pin(config.connect(NoTls)).await.map_err(failed)?;
            return Ok((client, tokio::spawn(serve(connection, heard))));
        }
        let tls = tls::bare(&self.tls).map_err(Failure::Away)?;
        let tls = MakeRustlsConnect::new(tls);
        let (client, connection) = Box::pin(config.connect(tls)).await.map_err(failed)?;
        Ok((client, tokio::spawn(serve(connection, heard))))
    }
}

async fn serve<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    heard: impl Fn(tokio_postgres::Notification),
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(tokio_postgres::AsyncMessage::Notification(told))) => heard(told),
            Some(Ok(_)) => {}
            // Whoever uses the connection is told.
            Some(Err(_)) | None => return,
        }
    }
}

impl managed::Manager for Dialler {
    type Type = ClientWrapper;
    type Error = Failure;

    async fn create(&self) -> Result<ClientWrapper, Failure> {
        let (client, task) = self.dial(|_| {}).await?;
        let deadline = format!(
            "SET statement_timeout = {0}; SET lock_timeout = {0}; SET idle_in_transaction_session_timeout = {0}",
            DEADLINE.as_millis()
        );
        let set = client.batch_execute(&deadline).await;
        set.map_err(|error| Failure::of(&error))?;
        Ok(ClientWrapper::new(client, task))
    }

    async fn recycle(
        &self,
        client: &mut ClientWrapper,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<Failure> {
        match client.is_closed() {
            true => Err(managed::RecycleError::message("it is closed")),
            false => Ok(()),
        }
    }
}

/// Whether the database answers.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Yes,
    /// Not lately: nobody asks before this moment, and then one asks for all.
    NotBefore(Instant),
}

/// Connections, within a deadline.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) dialler: Dialler,
    pool: managed::Pool<Dialler>,
    answers: Mutex<(Answers, String)>,
}

/// A connection that is given back only when its work is done: one that was left in the middle of
/// something is closed.
pub(super) struct Borrowed {
    client: Option<managed::Object<Dialler>>,
    is_done: bool,
}

impl Borrowed {
    fn done(&mut self) {
        self.is_done = true;
    }
}

impl Deref for Borrowed {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.client
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        self.client
            .as_mut()
            .expect("it is there until it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|_| !self.is_done) {
            drop(managed::Object::take(client));
        }
    }
}

/// The work of one transaction.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl Pool {
    pub(super) fn new(dialler: Dialler, size: usize) -> Result<Pool, String> {
        let pool = managed::Pool::builder(dialler.clone())
            .max_size(size)
            .build();
        Ok(Pool {
            dialler,
            pool: pool.map_err(|error| error.to_string())?,
            answers: Mutex::new((Answers::Yes, String::new())),
        })
    }

    fn answers(&self) -> MutexGuard<'_, (Answers, String)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a connection of its own, within the deadline. While the database is away
    /// everybody hears so at once, but for one now and then who asks.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, RegistryError> {
        self.may_ask()?;
        let outcome = within_deadline(work).await.unwrap_or_else(|| {
            let limit = DEADLINE.as_secs();
            Err(Failure::Away(format!("it did not answer within {limit}s")))
        });
        match outcome {
            Ok(value) => {
                self.answers().0 = Answers::Yes;
                Ok(value)
            }
            Err(Failure::OutOfIds) => Err(RegistryError::OutOfIds),
            Err(Failure::Refused(why)) => {
                self.answers().0 = Answers::Yes;
                Err(RegistryError::Store(why))
            }
            Err(Failure::Away(why)) => {
                *self.answers() = (Answers::NotBefore(Instant::now() + REST), why.clone());
                Err(RegistryError::Store(why))
            }
        }
    }

    fn may_ask(&self) -> Result<(), RegistryError> {
        let mut answers = self.answers();
        let now = Instant::now();
        match answers.0 {
            Answers::NotBefore(at) if now < at => Err(RegistryError::Store(answers.1.clone())),
            Answers::NotBefore(_) => {
                // The others go on to hear that it is away until this one knows better.
                answers.0 = Answers::NotBefore(now + DEADLINE + REST);
                Ok(())
            }
            Answers::Yes => Ok(()),
        }
    }

    async fn borrow(&self) -> Result<Borrowed, Failure> {
        let client = self.pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(failure) => failure,
            other => Failure::Away(format!("no connection is free: {other:?}")),
        })?;
        Ok(Borrowed {
            client: Some(client),
            is_done: false,
        })
    }

    /// Reads, or does anything that is one statement.
    pub(super) async fn read<T>(
        &self,
        work: impl for<'a> Fn(&'a ClientWrapper) -> Work<'a, T> + Send + Sync,
    ) -> Result<T, RegistryError> {
        self.within(async {
            for tries in 1.. {
                let mut client = self.borrow().await?;
                let outcome = work(&client).await;
                match outcome {
                    Err(error) if is_transient(&error) && tries < TRIES => {}
                    outcome => {
                        if !client.is_closed() {
                            client.done();
                        }
                        return outcome.map_err(|error| Failure::of(&error));
                    }
                }
            }
            unreachable!("the loop ends with its last try")
        })
        .await
    }

    /// Runs one transaction; again, if it met another one.
    pub(super) async fn write<T>(
        &self,
        work: impl for<'a> Fn(&'a deadpool_postgres::Transaction<'a>) -> Work<'a, T> + Send + Sync,
    ) -> Result<T, RegistryError> {
        self.within(async {
            for tries in 1.. {
                let mut client = self.borrow().await?;
                let (outcome, may_be_done) = one(&mut client, &work).await;
                let again =
                    |error: &Error| met_another(error) || !may_be_done && is_transient(error);
                let again = outcome.as_ref().is_err_and(again);
                if !client.is_closed() {
                    client.done();
                }
                if !again || tries == TRIES {
                    return outcome.map_err(|error| Failure::of(&error));
                }
            }
            unreachable!("the loop ends with its last try")
        })
        .await
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// Waits for the database for as long as it may take, in steps: the time in which this process
/// stood still (a machine that was suspended, SIGSTOP) is that of one step, and not the database's.
async fn within_deadline<T>(work: impl Future<Output = T>) -> Option<T> {
    const STEPS: u32 = 5;
    let mut work = std::pin::pin!(work);
    for _ in 0..STEPS {
        if let Ok(outcome) = timeout(DEADLINE / STEPS, work.as_mut()).await {
            return Some(outcome);
        }
    }
    None
}

/// Also tells whether it may have been done: not before it was committed.
async fn one<T>(
    client: &mut ClientWrapper,
    work: &(impl for<'a> Fn(&'a deadpool_postgres::Transaction<'a>) -> Work<'a, T> + Send + Sync),
) -> (Result<T, Error>, bool) {
    let transaction = match client.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(error), false),
    };
    let outcome = match work(&transaction).await {
        Ok(value) => transaction.commit().await.map(|()| value),
        Err(error) => {
            // It is what it is; the first error tells more.
            let _ = transaction.rollback().await;
            return (Err(error), false);
        }
    };
    (outcome, true)
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::registry) enum Failure {
    /// The database can't be reached, or does not answer.
    Away(String),
    /// It answered, and would not.
    Refused(String),
    OutOfIds,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Failure {
        let Some(db) = error.as_db_error() else {
            return Failure::Away(cause::in_words(error));
        };
        if *db.code() == SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED {
            return Failure::OutOfIds;
        }
        let why = db.message().to_owned();
        // It says itself that it serves nobody now: it begins, ends, is full, or only reads.
        let class = &db.code().code()[..2];
        match ["57", "53", "08", "25", "28", "3D"].contains(&class) {
            true => Failure::Away(why),
            false => Failure::Refused(why),
        }
    }
}

/// Tells whether a transaction failed because of another one, or of a pause, so that it may succeed
/// now.
fn met_another(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::UNIQUE_VIOLATION,
            // This process stood still in the middle of one.
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(code)
    })
}

/// Tells whether a connection was closed, or a statement that
/// it keeps is out of date because another version of the gateway has added to a table.
fn is_transient(error: &Error) -> bool {
    let stale = error.as_db_error().is_some_and(|db| {
        db.message()
            .contains("cached plan must not change result type")
    });
    stale || error.is_closed()
}
