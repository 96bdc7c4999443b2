//! The URL of a PostgreSQL database, read as its driver reads it, with this gateway's rules for TLS
//! and for how long anybody waits.

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, Error};

/// How long a connection may take, or go without an answer to what was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a URL. TLS is asked for unless the URL says `sslmode=disable`, or the server is on this
/// machine; a server that is spoken to by TLS must show who it is, whatever `sslmode` says.
///
/// # Errors
/// What is wrong with it, in a sentence that does not repeat it: it has a password.
pub fn parse(url: &str) -> Result<Config, String> {
    let url = url.trim();
    let verified = ["verify-full", "verify-ca"];
    let known = verified.iter().fold(url.to_owned(), |url, mode| {
        url.replace(&format!("sslmode={mode}"), "sslmode=require")
    });
    let mut config: Config = known.parse().map_err(|error: Error| chain(&error))?;
    if config.get_ssl_mode() == SslMode::Prefer {
        let here = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .trim_matches(['[', ']'])
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
            Host::Unix(_) => true,
        });
        config.ssl_mode(match here {
            true => SslMode::Disable,
            false => SslMode::Require,
        });
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    if config.get_application_name().is_none() {
        config.application_name("livy-gateway");
    }
    // A connection that is dead without a word is found by the next few packets.
    config
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(PATIENCE);
    Ok(config)
}

/// An error and what lies below it, in one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(below) = next {
        text = format!("{text}: {below}");
        next = below.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_left_out_only_where_it_is_not_wanted_or_not_needed() {
        let mode = |url: &str| parse(url).expect("is right").get_ssl_mode();
        assert_eq!(mode("postgres://u:p@db.example/g"), SslMode::Require);
        assert_eq!(
            mode("postgres://u:p@db.example/g?sslmode=prefer"),
            SslMode::Require
        );
        assert_eq!(
            mode("postgres://u:p@db.example/g?sslmode=verify-full"),
            SslMode::Require
        );
        assert_eq!(
            mode("postgres://u:p@db.example/g?sslmode=disable"),
            SslMode::Disable
        );
        assert_eq!(mode("postgres://u:p@127.0.0.1/g"), SslMode::Disable);
        assert_eq!(mode("postgres://u:p@[::1]/g"), SslMode::Disable);
        assert_eq!(
            mode("postgres://u:p@127.0.0.1/g?sslmode=require"),
            SslMode::Require
        );
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        let why = parse("postgres://u:hunter2@db/g?colour=blue").expect_err("is wrong");
        assert!(why.contains("colour") && !why.contains("hunter2"), "{why}");
    }
}
