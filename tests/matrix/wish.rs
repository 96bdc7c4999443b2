//! What was asked for on the command line.

use crate::serve::Server;

pub(crate) const USAGE: &str = "[--serve SERVER | [--only SERVER]... [--kyuubi URL [--kyuubi-user USER:PASSWORD] [--kyuubi-jobs FOLDER]]]";
const SERVERS: [&str; 6] = ["livy", "hdinsight", "yarn", "knox", "ibm", "kyuubi"];

pub(crate) enum Wish {
    /// One server alone.
    Serve(Server),
    Matrix(Matrix),
}

#[derive(Default)]
pub(crate) struct Matrix {
    /// These servers; empty means all.
    pub(crate) only: Vec<String>,
    pub(crate) kyuubi: Option<Kyuubi>,
}

/// A real Kyuubi, if one is at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kyuubi {
    /// `http://HOST:PORT`
    pub(crate) url: String,
    pub(crate) login: Option<(String, String)>,
    /// Where `light.py`, `job.py`, `bad.py`, `ok.py`, `certify.py` and `pi.jar` are, as the Kyuubi
    /// sees it.
    pub(crate) jobs: Option<String>,
}

impl Wish {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
        let mut only = Vec::new();
        let mut kyuubi = Kyuubi::default();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} wants a value"))?;
            match word.as_str() {
                "--serve" => return Server::from_word(&value).map(Wish::Serve),
                "--only" if SERVERS.contains(&value.as_str()) => only.push(value),
                "--only" => {
                    return Err(format!(
                        "{value} is no server of the matrix; there are {}",
                        SERVERS.join(", ")
                    ));
                }
                "--kyuubi" => {
                    kyuubi.url = value
                        .trim_end_matches('/')
                        .trim_end_matches("/api/v1")
                        .to_owned()
                }
                "--kyuubi-user" => {
                    let (user, password) = value
                        .split_once(':')
                        .ok_or("--kyuubi-user wants USER:PASSWORD")?;
                    kyuubi.login = Some((user.to_owned(), password.to_owned()));
                }
                "--kyuubi-jobs" => kyuubi.jobs = Some(value),
                _ => return Err(format!("{word} is not known")),
            }
        }
        if kyuubi.url.is_empty() && (kyuubi.login.is_some() || kyuubi.jobs.is_some()) {
            return Err("--kyuubi-user and --kyuubi-jobs belong to --kyuubi".into());
        }
        Ok(Wish::Matrix(Matrix {
            only,
            kyuubi: (!kyuubi.url.is_empty()).then_some(kyuubi),
        }))
    }
}
