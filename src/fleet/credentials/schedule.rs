//! When a token is fetched again: pure, with time and chance as arguments.

use std::time::Duration;

/// A token is replaced this long before its end, or at 80 % of its life if that is earlier: what
/// the libraries of IBM and Microsoft do.
const BEFORE_THE_END: Duration = Duration::from_secs(300);

/// Pauses after failures grow from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest wish of a `Retry-After` that is granted: a typing error of a whole day there must
/// not keep a cluster away for one.
const LONGEST_WISH: Duration = Duration::from_secs(600);

/// So many refusals are taken for a hiccup; more are a mistake in the configuration.
const REFUSALS: u32 = 3;

/// After how much of a life a token is replaced, `chance` (0 to 1) of a tenth earlier, so that
/// gateways that started together do not ask together.
pub(super) fn refresh_after(life: Duration, chance: f64) -> Duration {
    // Where five minutes are most of a life, half of it: else the token would be fetched without
    // end.
    let before_the_end = life.saturating_sub(BEFORE_THE_END).max(life / 2);
    let latest = life.mul_f64(0.8).min(before_the_end);
    let early = latest.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 10.0);
    // However short lives are, an endpoint is not asked more often than this.
    early.max(FIRST_PAUSE)
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The endpoint read the request and refused it: asking again will not help.
    Refused,
    /// Anything that may pass.
    Trouble,
}

/// How long to wait after so many failures in a row, the first being 1.
pub(super) fn pause_after(
    kind: Kind,
    failures: u32,
    wish: Option<Duration>,
    chance: f64,
) -> Duration {
    if kind == Kind::Refused && failures >= REFUSALS {
        return LONGEST_PAUSE;
    }
    let doublings = failures.saturating_sub(1).min(16);
    let grown = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let spread = grown.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 5.0);
    let pause = spread.max(FIRST_PAUSE);
    pause.max(wish.unwrap_or_default().min(LONGEST_WISH))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_token_is_replaced_ahead_of_its_end() {
        for (life, after) in [
            (3600, 2880),
            (86_399, 69_119),
            (1500, 1200),
            (1200, 900),
            (600, 300),
            (300, 150),
            (60, 30),
            (1, 1),
            (0, 1),
        ] {
            assert_eq!(refresh_after(secs(life), 0.0).as_secs(), after, "{life}");
            let early = refresh_after(secs(life), 1.0);
            assert!(
                early <= secs(after + 1) && early >= secs(after).mul_f64(0.89),
                "{life}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses = |kind, chance| {
            (1..9)
                .map(|n| pause_after(kind, n, None, chance).as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pauses(Kind::Trouble, 0.0),
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(
            pauses(Kind::Trouble, 1.0),
            [1000, 1600, 3200, 6400, 12_800, 25_600, 48_000, 48_000]
        );
        assert_eq!(pause_after(Kind::Trouble, u32::MAX, None, 0.0), secs(60));
    }

    #[test]
    fn a_refusal_is_repeated_twice_and_then_once_a_minute() {
        let pauses: Vec<_> = (1..6)
            .map(|n| pause_after(Kind::Refused, n, None, 0.5).as_secs())
            .collect();
        assert_eq!(pauses, [1, 1, 60, 60, 60]);
    }

    #[test]
    fn a_wish_is_granted_within_reason() {
        let wish = |seconds| pause_after(Kind::Trouble, 1, Some(secs(seconds)), 0.0);
        assert_eq!(
            [wish(0), wish(30), wish(86_400)],
            [secs(1), secs(30), secs(600)]
        );
    }
}
