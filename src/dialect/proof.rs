//! What proves what: the one place that says what an exchange with a cluster proves about a
//! submission.
//!
//! | seen | proves |
//! | --- | --- |
//! | a success that decodes, under our key where the flavor echoes it | *created* |
//! | a refusal in a body that this flavor's own software writes for a submission that it does not take | *not created* |
//! | a success under another name than was sent, of a cluster that shows names | *created*, perhaps: the cluster may change names |
//! | any other answer, whatever its status | nothing; whoever stands in front has let go of the request |
//! | 408, 500, 502, 504 of whoever stands in front; a break; a timeout; a crash of ours | nothing; something in between may still hold it |
//! | "the name is taken", of a name that was made up for it | *created*, under an id that is not told |
//! | a look-up that the cluster itself answered, and that shows this batch | *created* |
//! | look-ups that the cluster itself answered, and that show nothing for long enough | *absent* |
//!
//! A status alone proves nothing: a front says 503, 302, 401, 404 or HTML also after the cluster
//! behind it has accepted.

use crate::fault::{FaultKind, UpstreamFault};
use crate::flavor::{Dialect, Lookup, LookupPlan};
use crate::livy::NAME_PREFIX;
use crate::model::Observed;
use crate::wire::{UpstreamResponse, segment};

/// What the answer to a submission proves.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// It exists.
    Created(Box<Observed>),
    /// The cluster's own software did not take it. At most a ghost is left.
    NotCreated(UpstreamFault),
    /// It exists, or may: its id was not told, or the answer shows another name.
    Exists(UpstreamFault),
    /// Nothing.
    Unclear(UpstreamFault, Holder),
}

/// Who may still hold a submission whose outcome is unclear; decides how long look-ups must show
/// nothing before that is *absent*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: whoever stands in front has answered.
    Nobody,
    /// Something in between: the connection broke, the time was up, or somebody in front gave up
    /// waiting.
    Perhaps,
}

/// Reads what the answer to a submission proves.
pub fn of_create(dialect: &dyn Dialect, lookup: &Lookup, response: &UpstreamResponse<'_>) -> Proof {
    match dialect.decode_create(response) {
        Ok(observed) if contradicts(dialect, lookup, &observed) => {
            let fault = UpstreamFault::unreadable(
                response,
                "the answer to the submission speaks of another batch",
            );
            match lookup.sent_name {
                // A cluster may trim names or change them; look-ups under ours don't find it then.
                Some(_) => Proof::Exists(fault),
                None => Proof::Unclear(fault, Holder::Nobody),
            }
        }
        Ok(observed) => Proof::Created(Box::new(observed)),
        // A made-up name is given once: who has it is this submission, which something in between
        // sent twice.
        Err(fault) if fault.kind == FaultKind::DuplicateName && lookup.is_made_up() => {
            Proof::Exists(fault)
        }
        Err(fault) if fault.kind.is_own_refusal() => Proof::NotCreated(fault),
        Err(fault) => {
            let holder = if matches!(fault.status, 408 | 500 | 502 | 504) {
                Holder::Perhaps
            } else {
                Holder::Nobody
            };
            Proof::Unclear(fault, holder)
        }
    }
}

/// Tells whether an answer to a submission proves that nothing was taken because of our login: the
/// cluster's own software says so. A bare 401 proves nothing.
pub fn refuses_login(dialect: &dyn Dialect, response: &UpstreamResponse<'_>) -> bool {
    matches!(dialect.decode_create(response), Err(fault) if fault.kind == FaultKind::Unauthorized)
}

/// Tells whether a batch that was found under a submission's key is the one that was submitted: the
/// answer is compared with what was asked, for a cluster may read a name as something else.
pub fn shows(lookup: &Lookup, observed: &Observed) -> bool {
    match &lookup.sent_name {
        Some(sent) => observed.name.as_ref() == Some(sent),
        None => observed.upstream_id == lookup.key,
    }
}

fn contradicts(dialect: &dyn Dialect, lookup: &Lookup, observed: &Observed) -> bool {
    match &lookup.sent_name {
        // Livy 0.5 shows no names at all.
        Some(_) if !observed.name_shown => false,
        Some(_) => !shows(lookup, observed),
        // Where the gateway chooses the id, it must come back; IBM gives a number of its own.
        None => dialect.lookup(lookup) != LookupPlan::NewInList && !shows(lookup, observed),
    }
}

impl Lookup {
    /// Tells whether what is found under it can be nothing else: it was made for this submission,
    /// and given to nothing else.
    pub fn is_certain(&self) -> bool {
        self.sent_name.is_none() || self.is_made_up()
    }

    /// Tells whether the name was made up by the gateway, and so was never given to anything else.
    pub fn is_made_up(&self) -> bool {
        self.sent_name
            .as_deref()
            .is_some_and(|name| name.strip_prefix(NAME_PREFIX) == Some(self.key.as_str()))
    }
}

/// Tells whether a name can be asked for by path. Livy takes a name for a number when every
/// character of it is a digit in Unicode's sense (`forall(_.isDigit)`), dots are eaten by whoever
/// normalises paths, and escapes may not survive a proxy in between.
pub fn is_path_safe(name: &str) -> bool {
    segment(name) == name
        && !name.is_empty()
        && name != "."
        && name != ".."
        && !name.chars().all(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavor::Flavor;

    const KEY: &str = "0e0b6f5e-0000-4000-8000-000000000000";

    fn proof(
        flavor: Flavor,
        name: Option<&str>,
        status: u16,
        content_type: &str,
        body: &str,
    ) -> &'static str {
        let made_up = format!("{NAME_PREFIX}{KEY}");
        let sent_name = match flavor {
            Flavor::Ibm | Flavor::Kyuubi => None,
            _ => Some(name.unwrap_or(&made_up).to_owned()),
        };
        let lookup = Lookup {
            key: KEY.into(),
            sent_name,
        };
        let response = UpstreamResponse {
            status,
            content_type: Some(content_type),
            body: body.as_bytes(),
        };
        match of_create(flavor.dialect(), &lookup, &response) {
            Proof::Created(_) => "created",
            Proof::NotCreated(_) => "not created",
            Proof::Exists(_) => "exists",
            Proof::Unclear(_, Holder::Nobody) => "unclear, let go",
            Proof::Unclear(_, Holder::Perhaps) => "unclear, held",
        }
    }

    #[test]
    fn a_status_alone_proves_nothing() {
        for flavor in Flavor::ALL {
            for status in [
                200, 201, 204, 301, 302, 400, 401, 403, 404, 409, 413, 418, 429, 503, 599,
            ] {
                for (kind, body) in [
                    ("text/html", "<html>x</html>"),
                    ("text/plain", ""),
                    ("application/json", r#"{"error":"x"}"#),
                ] {
                    assert_eq!(
                        proof(flavor, None, status, kind, body),
                        "unclear, let go",
                        "{flavor} {status} {body}"
                    );
                }
            }
            for status in [408, 500, 502, 504] {
                assert_eq!(
                    proof(flavor, None, status, "text/html", "<html>x</html>"),
                    "unclear, held",
                    "{flavor} {status}"
                );
            }
        }
    }

    #[test]
    fn a_cluster_refuses_in_its_own_words() {
        let json = "application/json";
        for flavor in [Flavor::Livy, Flavor::Knox, Flavor::Hdinsight] {
            let told = |status, body: &str| proof(flavor, Some("nightly"), status, json, body);
            assert_eq!(
                told(400, r#"{"msg":"requirement failed: File is required."}"#),
                "not created"
            );
            assert_eq!(
                told(
                    400,
                    r#"{"msg":"Rejected, too many sessions are being created!"}"#
                ),
                "not created"
            );
            assert_eq!(
                told(400, r#""Unrecognized field \"foo\" (class x)""#),
                "not created"
            );
            assert_eq!(
                told(
                    400,
                    r#"{"msg":"Duplicate session name: Some(nightly) for session 17"}"#
                ),
                "not created"
            );
            assert_eq!(
                told(
                    403,
                    r#"{"msg":"User 'a' not allowed to impersonate 'Some(b)'."}"#
                ),
                "not created"
            );
            assert_eq!(
                told(400, r#"{"msg":"x","code":"y"}"#),
                "unclear, let go",
                "not a body of Livy's"
            );
            assert_eq!(
                proof(
                    flavor,
                    None,
                    400,
                    json,
                    r#"{"msg":"Duplicate session name: Some(x) for session 1"}"#
                ),
                "exists"
            );
        }
        let kyuubi = |status, body: &str| proof(Flavor::Kyuubi, None, status, json, body);
        assert_eq!(
            kyuubi(
                500,
                r#"{"message":"requirement failed: resource is a required parameter"}"#
            ),
            "not created"
        );
        assert_eq!(
            kyuubi(
                403,
                r#"{"message":"Failed to validate proxy privilege of A for B"}"#
            ),
            "not created"
        );
        assert_eq!(
            kyuubi(500, r#"{"message":"java.lang.OutOfMemoryError"}"#),
            "unclear, held"
        );
        let page = "<html><title>Cannot reach the backend</title></html>";
        assert_eq!(
            proof(Flavor::Kyuubi, None, 400, "text/html", page),
            "unclear, let go",
            "whoever stands in front"
        );
        let jackson =
            "Cannot construct instance of `java.util.ArrayList`\n at [Source: (x); line: 1]";
        assert_eq!(
            proof(Flavor::Kyuubi, None, 400, "text/plain", jackson),
            "not created"
        );
        let ibm = |status| {
            proof(
                Flavor::Ibm,
                None,
                status,
                json,
                r#"{"errors":[{"code":"c","message":"m"}],"trace":"t"}"#,
            )
        };
        assert_eq!(
            [ibm(400), ibm(401), ibm(403), ibm(503)],
            [
                "not created",
                "not created",
                "not created",
                "unclear, let go"
            ]
        );
    }

    #[test]
    fn a_success_must_be_ours() {
        let json = "application/json";
        let named = |name: &str| format!(r#"{{"id":3,"name":{name},"state":"starting"}}"#);
        assert_eq!(
            proof(Flavor::Livy, Some("n"), 201, json, &named("\"n\"")),
            "created"
        );
        assert_eq!(
            proof(Flavor::Livy, Some("n"), 201, json, &named("\"m\"")),
            "exists",
            "the cluster may have changed it"
        );
        assert_eq!(
            proof(Flavor::Livy, Some("n"), 201, json, &named("null")),
            "exists"
        );
        assert_eq!(
            proof(Flavor::Livy, Some("null"), 201, json, &named("\"null\"")),
            "created",
            "a name like any other"
        );
        assert_eq!(
            proof(
                Flavor::Livy,
                Some("n"),
                201,
                json,
                r#"{"id":3,"state":"starting"}"#
            ),
            "created",
            "Livy 0.5"
        );
        assert_eq!(
            proof(
                Flavor::Kyuubi,
                None,
                200,
                json,
                &format!(r#"{{"id":"{KEY}","state":"PENDING"}}"#)
            ),
            "created"
        );
        assert_eq!(
            proof(
                Flavor::Kyuubi,
                None,
                200,
                json,
                r#"{"id":"aaaaaaaa-0000-4000-8000-000000000000"}"#
            ),
            "unclear, let go"
        );
        assert_eq!(
            proof(
                Flavor::Kyuubi,
                None,
                200,
                json,
                r#"{"id":7,"state":"RUNNING"}"#
            ),
            "unclear, let go",
            "Kyuubi gives the id back that it was sent"
        );
        assert_eq!(
            proof(
                Flavor::Ibm,
                None,
                201,
                json,
                r#"{"id":3,"state":"not_started"}"#
            ),
            "created"
        );
    }

    #[test]
    fn names_that_a_path_changes_are_not_asked_for() {
        for name in ["126", "١٢٦", ".", "..", "a/b", "a b", "é", "", "½"] {
            assert!(!is_path_safe(name), "{name}");
        }
        assert!(is_path_safe("nightly-2.0_x~"));
    }
}
