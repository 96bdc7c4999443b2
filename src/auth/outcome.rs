//! How an authentication ends, in a word for the metric and a sentence for the client.

/// How an authentication ended; the `outcome` label of `auth_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the metric")]
pub enum Outcome {
    Accepted,
    Missing,
    Malformed,
    Expired,
    BadSignature,
    UnknownKey,
    WrongAudience,
    Rejected,
    BackendError,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 9] = [
        Outcome::Accepted,
        Outcome::Missing,
        Outcome::Malformed,
        Outcome::Expired,
        Outcome::BadSignature,
        Outcome::UnknownKey,
        Outcome::WrongAudience,
        Outcome::Rejected,
        Outcome::BackendError,
    ];

    /// Returns the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Missing => "missing",
            Outcome::Malformed => "malformed",
            Outcome::Expired => "expired",
            Outcome::BadSignature => "bad_signature",
            Outcome::UnknownKey => "unknown_key",
            Outcome::WrongAudience => "wrong_audience",
            Outcome::Rejected => "rejected",
            Outcome::BackendError => "backend_error",
        }
    }

    /// Returns what the client is told: enough to fix the credential, nothing about who exists.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Missing => "credentials are required",
            Outcome::Malformed => "the Authorization header can't be read",
            Outcome::Expired => "the token has expired or is not valid yet",
            Outcome::BadSignature => "the token's signature does not hold",
            Outcome::UnknownKey => "the token was signed with a key that is not known here",
            Outcome::WrongAudience => "the token is for another audience",
            Outcome::Rejected => "the credentials were not accepted",
            Outcome::BackendError => "the credentials can't be checked at the moment",
        }
    }
}
