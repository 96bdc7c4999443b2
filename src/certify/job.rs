//! The jobs that the suite submits, and their files.

/// The program that plays all three jobs: `certify.py SECONDS [fail]`.
pub const JOB_PROGRAM: &str = include_str!("job.py");
/// Where that program is expected when no `--job` names a place.
pub const DEFAULT_JOB: &str = "hdfs:///livy-gateway/certify.py";

/// The three jobs that the suite submits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Ends well after two seconds.
    Succeeds,
    /// Fails at once.
    Fails,
    /// Runs until it is killed.
    Runs,
}

impl Job {
    const ALL: [(Job, &'static str); 3] = [
        (Job::Succeeds, "succeeds"),
        (Job::Fails, "fails"),
        (Job::Runs, "runs"),
    ];

    /// Returns the arguments that the program gets.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Job::Succeeds => &["2"],
            Job::Fails => &["0", "fail"],
            Job::Runs => &["600"],
        }
    }
}

/// The files of the jobs, as the cluster sees them.
#[derive(Clone, Debug)]
pub struct Jobs {
    succeeds: String,
    fails: String,
    runs: String,
    /// Whether the user named them; else nobody knows if they are there.
    pub(super) named: bool,
}

impl Jobs {
    /// Reads `--job`: one file that plays all three by its arguments; or three, in the order
    /// succeeds, fails, runs; or `ROLE=FILE`.
    ///
    /// # Errors
    /// What can't be understood, in a sentence.
    pub fn parse(given: &[String]) -> Result<Jobs, String> {
        let mut jobs = Jobs {
            succeeds: DEFAULT_JOB.into(),
            fails: DEFAULT_JOB.into(),
            runs: DEFAULT_JOB.into(),
            named: !given.is_empty(),
        };
        let role = |text: &str| {
            let (word, file) = text.split_once('=')?;
            let (job, _) = Job::ALL.into_iter().find(|(_, name)| *name == word)?;
            Some((job, file.to_owned()))
        };
        let (with_role, plain): (Vec<&String>, Vec<&String>) =
            given.iter().partition(|text| role(text).is_some());
        match plain.as_slice() {
            [] => {}
            [one] => (jobs.succeeds, jobs.fails, jobs.runs) = ((*one).clone(), (*one).clone(), (*one).clone()),
            [succeeds, fails, runs] => (jobs.succeeds, jobs.fails, jobs.runs) = ((*succeeds).clone(), (*fails).clone(), (*runs).clone()),
            _ => return Err("--job takes one FILE, or three (succeeds, fails, runs), or ROLE=FILE with one of these roles".into()),
        }
        for (job, file) in with_role.into_iter().filter_map(|text| role(text)) {
            match job {
                Job::Succeeds => jobs.succeeds = file,
                Job::Fails => jobs.fails = file,
                Job::Runs => jobs.runs = file,
            }
        }
        Ok(jobs)
    }

    pub(super) fn file(&self, job: Job) -> &str {
        match job {
            Job::Succeeds => &self.succeeds,
            Job::Fails => &self.fails,
            Job::Runs => &self.runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(given: &[&str]) -> Result<[String; 3], String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        Jobs::parse(&given).map(|jobs| [jobs.succeeds, jobs.fails, jobs.runs])
    }

    #[test]
    fn jobs_are_one_file_three_or_by_role() {
        let texts = |list: [&str; 3]| Ok(list.map(str::to_owned));
        assert_eq!(files(&[]), texts([DEFAULT_JOB; 3]));
        assert_eq!(files(&["a=1.py"]), texts(["a=1.py"; 3]));
        assert_eq!(files(&["a", "b", "c"]), texts(["a", "b", "c"]));
        assert_eq!(files(&["a", "fails=b"]), texts(["a", "b", "a"]));
        assert!(files(&["a", "b"]).is_err());
    }
}
