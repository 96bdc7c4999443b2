//! What was asked for on the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::FLAVORS;

pub(crate) const USAGE: &str = "[--flavor FLAVOR]... [--submissions N] [--kills N] [--seed S] [--secs N] [--replicas N] [--calm N] [--stories N]";

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Each with a job file that suits it.
    pub(crate) flavors: Vec<(&'static str, &'static str)>,
    /// Submissions of each flavor.
    pub(crate) submissions: usize,
    /// How often the gateway goes down.
    pub(crate) kills: usize,
    /// How many gateways there are, on one PostgreSQL; 1 has a file of its own.
    pub(crate) replicas: usize,
    /// What all choices are drawn from.
    pub(crate) seed: u64,
    /// Over how long the submissions are spread.
    pub(crate) time: Duration,
    /// How long everything may take, after the last fault, to come to rest.
    pub(crate) calm: Duration,
    /// Of how many violations of a kind the whole story is told.
    pub(crate) stories: usize,
}

impl Wish {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut wish = Wish {
            flavors: Vec::new(),
            submissions: 60,
            kills: 6,
            replicas: 1,
            seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
            time: Duration::from_secs(80),
            // A gateway believes a cluster that lost a batch after half a minute.
            calm: Duration::from_secs(75),
            stories: 1,
        };
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} wants a value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{word} wants a number, not {value}"))
            };
            let count = || {
                number()
                    .and_then(|number| usize::try_from(number).map_err(|error| error.to_string()))
            };
            match word.as_str() {
                "--flavor" => match FLAVORS.iter().find(|(flavor, _)| *flavor == value) {
                    Some(flavor) => wish.flavors.push(*flavor),
                    None => return Err(format!("{value} is no flavor")),
                },
                "--submissions" => wish.submissions = count()?,
                "--kills" => wish.kills = count()?,
                "--replicas" => wish.replicas = count()?.max(1),
                "--seed" => wish.seed = number()?,
                "--secs" => wish.time = Duration::from_secs(number()?),
                "--calm" => wish.calm = Duration::from_secs(number()?),
                "--stories" => wish.stories = count()?,
                _ => return Err(format!("{word} is not known")),
            }
        }
        if wish.flavors.is_empty() {
            wish.flavors = FLAVORS.to_vec();
        }
        Ok(wish)
    }
}
