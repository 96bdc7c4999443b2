//! `livy-gateway kerberos-session`: what `serve` starts to hold tickets. Not for people.

use clap::Args;

use crate::fleet::credentials::kerberos::helper;

#[derive(Debug, Args)]
pub(super) struct Session {
    /// Whom to log in as.
    #[arg(long)]
    principal: String,
    /// The service to make tokens for.
    #[arg(long)]
    spn: String,
}

pub(super) fn run(session: &Session) -> Result<(), String> {
    helper::run(&session.principal, &session.spn).map_err(|error| error.to_string())
}
