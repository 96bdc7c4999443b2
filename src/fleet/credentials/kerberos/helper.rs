//! The helper's side: a process that holds one ticket and makes a token of it whenever it is told.
//!
//! A process of its own, because MIT Kerberos takes keytab and ticket cache from the environment,
//! which all of a process shares, and because its calls block on a KDC and can't be ended: a
//! process can be given an environment, and be ended.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext as _};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::Error;
use libgssapi::name::Name;
use libgssapi::oid::{
    GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, OidSet,
};

use super::talk::Said;

/// Answers each line of the standard input: the first one with a ticket, the others with tokens.
/// Ends with the input.
///
/// # Errors
/// The pipe to the gateway broke.
pub fn run(principal: &str, spn: &str) -> std::io::Result<()> {
    let mut held: Option<Held> = None;
    for line in std::io::stdin().lock().lines() {
        line?;
        let said = match &held {
            Some(held) => held.token().map(Said::Token),
            None => Held::acquire(principal, spn).map(|(new, life)| {
                held = Some(new);
                Said::Ready {
                    life_s: life.as_secs(),
                }
            }),
        };
        let said = said.unwrap_or_else(|error| failed(&error));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", said.to_line())?;
        out.flush()?;
    }
    Ok(())
}

/// The library's own sentence stands in brackets behind one that says nothing.
fn failed(error: &Error) -> Said {
    let text = error.to_string();
    let words = text
        .split_once(" (")
        .map_or(text.as_str(), |(_, rest)| rest);
    Said::Failed {
        // The codes of Kerberos are negative, and travel as unsigned numbers.
        code: error.minor.cast_signed(),
        words: words.strip_suffix(')').unwrap_or(words).to_owned(),
    }
}

struct Held {
    cred: Cred,
    target: Name,
}

impl Held {
    /// Gets a ticket for itself and one for the service, and tells how long both last.
    fn acquire(principal: &str, spn: &str) -> Result<(Held, Duration), Error> {
        let name = Name::new(principal.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
        let mut mechanisms = OidSet::singleton(GSS_MECH_KRB5)?;
        mechanisms.add(GSS_MECH_SPNEGO)?;
        let cred = Cred::acquire(Some(&name), None, CredUsage::Initiate, Some(&mechanisms))?;
        // `HTTP@host` is completed by krb5.conf's rules; a whole principal is taken as it is.
        let kind = match spn.contains('/') {
            true => GSS_NT_KRB5_PRINCIPAL,
            false => GSS_NT_HOSTBASED_SERVICE,
        };
        let target = Name::new(spn.as_bytes(), Some(kind))?;
        let own = cred.lifetime()?;
        // Bare Kerberos, because only that tells at once how long the service's ticket lasts.
        let flags = CtxFlags::empty();
        let mut probe = ClientCtx::new(
            Some(cred.clone()),
            target.duplicate()?,
            flags,
            Some(GSS_MECH_KRB5),
        );
        probe.step(None, None)?;
        let life = own.min(probe.lifetime()?);
        Ok((Held { cred, target }, life))
    }

    /// Makes a token for one request. No answer of the server's is waited for: what comes back
    /// would prove who it is only after it has been told everything.
    fn token(&self) -> Result<String, Error> {
        let (cred, target) = (self.cred.clone(), self.target.duplicate()?);
        let mut context =
            ClientCtx::new(Some(cred), target, CtxFlags::empty(), Some(GSS_MECH_SPNEGO));
        let token = context.step(None, None)?;
        Ok(STANDARD.encode(token.as_deref().unwrap_or_default()))
    }
}
