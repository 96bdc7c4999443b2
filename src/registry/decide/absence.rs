//! When look-ups that show nothing are proof.

use std::time::Duration;

/// What look-ups have shown so far: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// How long after the last moment at which a byte of the submission can have left the newest
    /// look-up was asked that the cluster itself answered with nothing; over all processes, by the
    /// monotonic clock.
    pub quiet: Duration,
    /// How long look-ups must show nothing: `create_batch` while something in between may hold the
    /// request, `settle` once it has been answered.
    pub required: Duration,
    /// The longest time without any answered look-up.
    pub longest_gap: Duration,
    /// For how long the cluster shows what has ended.
    pub remembers: Duration,
}

/// What the silence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing yet.
    NotYet,
    /// It did not arrive.
    Proven,
    /// It may have arrived, ended, and been forgotten while nobody looked.
    Unprovable,
}

/// Judges a silence.
pub fn absence(silence: Silence) -> Absence {
    if silence.quiet < silence.required {
        Absence::NotYet
    } else if silence.longest_gap >= silence.remembers {
        Absence::Unprovable
    } else {
        Absence::Proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_must_be_long_and_without_gaps() {
        let silence = |quiet, gap| Silence {
            quiet: Duration::from_secs(quiet),
            required: Duration::from_secs(120),
            longest_gap: Duration::from_secs(gap),
            remembers: Duration::from_secs(540),
        };
        assert_eq!(
            absence(silence(5, 1)),
            Absence::NotYet,
            "five seconds of 404 are no proof"
        );
        assert_eq!(absence(silence(120, 5)), Absence::Proven);
        assert_eq!(
            absence(silence(120, 600)),
            Absence::Unprovable,
            "it may have come and gone"
        );
    }
}
