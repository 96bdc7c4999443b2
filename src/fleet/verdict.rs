//! What the end of one exchange says of the cluster, and whether sending it again can help. Pure;
//! what it says of a submission is decided in `livy_dialect::proof`.

use livy_dialect::{Dialect, Operation};

use super::answer::{Answer, SendError};

/// What an exchange says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The batch server answered.
    Good,
    /// Nobody answered, or whoever stands in front said that the cluster does not.
    Bad,
    /// Somebody in front answered something else: a login page, a limit, a redirection. Or the
    /// request never came so far.
    Neither,
}

/// Reads what an exchange says of its cluster.
pub fn of(result: &Result<Answer, SendError>, dialect: &dyn Dialect) -> Verdict {
    match result {
        // It answered, and more than is read.
        Err(error) if error.is_too_large() => Verdict::Good,
        // A kept connection that had been closed meanwhile: a cluster may do that at any time.
        Err(SendError::NotSent {
            reason: "reset", ..
        }) => Verdict::Neither,
        // Nothing was sent.
        Err(SendError::Unsigned(_)) => Verdict::Neither,
        Err(_) => Verdict::Bad,
        Ok(answer) if is_fronts_fault(answer, dialect) => Verdict::Bad,
        Ok(answer) if answer.as_response().is_html() => Verdict::Neither,
        Ok(answer) if matches!(answer.status, 300..=399 | 401 | 403 | 407 | 429) => {
            Verdict::Neither
        }
        Ok(_) => Verdict::Good,
    }
}

/// Tells whether the same request may meet something better a moment later, and may be sent twice.
///
/// A kill is sent again only if not a byte of the first left: whatever else became of it is looked
/// at before another one (`batches::kill`), for the id may be another batch's by then.
pub fn repeat_may_help(
    operation: Operation,
    result: &Result<Answer, SendError>,
    dialect: &dyn Dialect,
) -> bool {
    let is_kill = operation == Operation::DeleteBatch;
    match result {
        Err(SendError::NotSent { reason, .. }) => {
            matches!(*reason, "dns" | "connect" | "timeout_connect" | "reset")
        }
        Err(SendError::MaybeSent { reason, .. }) => {
            !is_kill && matches!(*reason, "reset" | "timeout_response")
        }
        // It is fetched ahead of time, and would have come by now.
        Err(SendError::Unsigned(_)) => false,
        Ok(answer) => {
            !is_kill && matches!(answer.status, 502..=504) && is_fronts_fault(answer, dialect)
        }
    }
}

fn is_fronts_fault(answer: &Answer, dialect: &dyn Dialect) -> bool {
    answer.status >= 500 && !dialect.is_own_fault(&answer.as_response())
}

#[cfg(test)]
mod tests {
    use livy_dialect::Flavor;

    use super::*;

    fn answer(status: u16, content_type: &str, body: &str) -> Result<Answer, SendError> {
        Ok(Answer {
            status,
            content_type: Some(content_type.to_owned()),
            body: body.to_owned().into(),
        })
    }

    fn livy(status: u16, content_type: &str, body: &str) -> (Verdict, bool) {
        let (result, dialect) = (answer(status, content_type, body), Flavor::Livy.dialect());
        (
            of(&result, dialect),
            repeat_may_help(Operation::GetState, &result, dialect),
        )
    }

    #[test]
    fn what_the_cluster_writes_is_no_failure_of_the_cluster() {
        let json = "application/json";
        assert_eq!(livy(200, json, "{}"), (Verdict::Good, false));
        assert_eq!(livy(404, json, r#"{"msg":"x"}"#), (Verdict::Good, false));
        assert_eq!(livy(500, json, r#"{"msg":"x"}"#), (Verdict::Good, false));
        assert_eq!(livy(500, json, r#""a string""#), (Verdict::Good, false));
    }

    #[test]
    fn a_5xx_of_the_front_is_a_failure() {
        for (status, again) in [(500, false), (502, true), (503, true), (504, true)] {
            for (kind, body) in [
                ("text/html", "<html></html>"),
                ("text/plain", ""),
                ("application/json", r#"{"error":1}"#),
            ] {
                assert_eq!(
                    livy(status, kind, body),
                    (Verdict::Bad, again),
                    "{status} {body}"
                );
            }
        }
        let ibm = r#"{"errors":[{"code":"x","message":"y"}]}"#;
        let of_ibm = |status| {
            of(
                &answer(status, "application/json", ibm),
                Flavor::Ibm.dialect(),
            )
        };
        assert_eq!((of_ibm(500), of_ibm(503)), (Verdict::Good, Verdict::Bad));
    }

    #[test]
    fn a_login_page_or_a_limit_says_nothing() {
        for status in [302, 401, 403, 429] {
            assert_eq!(livy(status, "text/plain", ""), (Verdict::Neither, false));
        }
        assert_eq!(livy(200, "text/html", "<html>"), (Verdict::Neither, false));
    }

    #[test]
    fn a_kill_is_sent_again_only_if_nothing_left() {
        let dialect = Flavor::Livy.dialect();
        let not_sent = Err(SendError::NotSent {
            reason: "connect",
            detail: String::new(),
        });
        let maybe = Err(SendError::MaybeSent {
            reason: "reset",
            detail: String::new(),
        });
        let front = answer(503, "text/html", "");
        let may = |operation, result| repeat_may_help(operation, result, dialect);
        for (operation, expected) in [(Operation::GetBatch, true), (Operation::DeleteBatch, false)]
        {
            assert!(may(operation, &not_sent));
            assert_eq!(may(operation, &maybe), expected);
            assert_eq!(may(operation, &front), expected);
        }
    }
}
