//! `routes.yaml`: text, checked, running.
//!
//! Owns reading the file into [`Config`] with every problem at once. Three stages, a file each:
//! `tree` (YAML with places), `shape` (keys and types, against the schema made from `raw`), `check`
//! (values) into `checked`. Leaves building pools, TLS and key sets to the rooms that use them;
//! their problems come back through [`Loaded::locate`] and look the same.

pub mod addresses;
mod check;
pub mod checked;
mod effective;
pub mod glob;
mod hidden;
mod notes;
mod path;
#[cfg(feature = "postgres")]
pub mod postgres_url;
pub mod problem;
pub mod raw;
mod shape;
mod tree;

use std::path::{Path, PathBuf};

pub use check::BASE_PATHS;
pub(crate) use check::{long_enough, parse_duration};
pub use checked::Config;
pub use problem::{Place, Problem, Problems};
pub use shape::schema;

/// A configuration and the text that it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    file: String,
    text: String,
    tree: tree::Node,
    hidden: Vec<problem::Hidden>,
    masked: serde_json::Value,
}

/// A problem that was found while building, under a key's path such as
/// `clusters.onprem.tls.ca_file`.
#[derive(Debug)]
pub struct BuildProblem {
    /// The path; steps of names only.
    pub path: Vec<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// It is there for the time that it is: what is wrong was right, or will be.
    pub is_of_the_time: bool,
}

impl BuildProblem {
    /// Makes a problem.
    pub fn new(path: &[&str], what: impl Into<String>, remedy: impl Into<String>) -> Self {
        BuildProblem {
            path: path.iter().map(|step| (*step).to_owned()).collect(),
            what: what.into(),
            remedy: remedy.into(),
            is_of_the_time: false,
        }
    }

    /// Says that it is one of the time.
    #[must_use]
    pub fn of_the_time(self) -> Self {
        BuildProblem {
            is_of_the_time: true,
            ..self
        }
    }
}

impl Loaded {
    /// Gives problems of the build their places in the file.
    pub fn locate(&self, found: Vec<BuildProblem>) -> Problems {
        let list = found.into_iter().map(|problem| {
            let path: Vec<path::Step> = problem.path.into_iter().map(path::Step::Key).collect();
            Problem::new(self.tree.find(&path), &path::show(&path), problem.what)
                .remedy(problem.remedy)
        });
        Problems {
            file: self.file.clone(),
            text: self.text.clone(),
            hidden: self.hidden.clone(),
            list: sorted(list.collect()),
        }
    }

    /// Returns the configuration in force: the file's content with every secret masked, and the
    /// values of what it leaves out.
    pub fn masked(&self) -> serde_json::Value {
        self.masked.clone()
    }

    /// Returns the file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what is right and worth knowing all the same, a line each. That a SQLite file serves
    /// one gateway is said where it may be meant for more: where the file names it, and where this
    /// runs as one of Kubernetes' pods.
    pub fn notes(&self) -> Vec<String> {
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let is_sqlite = matches!(self.config.registry, checked::Registry::Sqlite(_));
        let is_named = self.tree.has(&["registry", "sqlite"]);
        let alone = (is_sqlite && (in_pod || is_named)).then(|| notes::ONE_GATEWAY.to_owned());
        alone.into_iter().chain(self.promises()).collect()
    }

    /// Returns what a gateway of this configuration does not promise, a line each.
    pub fn promises(&self) -> Vec<String> {
        notes::notes(&self.config)
    }

    /// Returns a hash of the file's text, for telling replicas apart.
    pub fn hash(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.text.as_bytes());
        digest
            .as_ref()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Reads a file.
///
/// # Errors
/// Every problem of it, in the file's order.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    match must_be_a_file(path).and_then(|()| std::fs::read_to_string(path)) {
        Ok(text) => parse(&file, text, &folder(path)),
        Err(error) => {
            let problem = Problem::new(Place::START, "", format!("can't read the file: {error}"));
            let list = vec![problem.remedy(
                "name it with `-c FILE` or LIVY_GATEWAY_CONFIG; `livy-gateway demo` needs none",
            )];
            Err(Problems {
                file,
                text: String::new(),
                hidden: Vec::new(),
                list,
            })
        }
    }
}

/// Makes sure that reading it comes to an end: a pipe may hold whoever opens it for ever.
///
/// # Errors
/// It is not there, or something else.
pub fn must_be_a_file(path: &Path) -> std::io::Result<()> {
    match std::fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads a text; relative paths in it are relative to `folder`.
///
/// # Errors
/// Every problem of it, in the file's order.
pub fn parse(file: &str, text: String, folder: &Path) -> Result<Loaded, Problems> {
    let (mut problems, mut hidden) = (Vec::new(), Vec::new());
    let tree = tree::parse(&text, &mut problems, &mut hidden);
    let tree = tree.unwrap_or(tree::Node {
        place: Place::START,
        kind: tree::Kind::Map(Vec::new()),
    });
    if !problems.is_empty() && matches!(&tree.kind, tree::Kind::Map(entries) if entries.is_empty())
    {
        return Err(Problems {
            file: file.to_owned(),
            text,
            hidden,
            list: sorted(problems),
        });
    }
    let value = shape::check(&tree, &mut problems);
    let mut masked = value.clone();
    hidden::mask(&mut masked, &mut Vec::new());
    match serde_json::from_value(value) {
        Ok(raw) => {
            let config = check::check(raw, &tree, folder, &mut problems);
            if problems.is_empty() {
                let masked = effective::effective(&config, masked);
                return Ok(Loaded {
                    config,
                    file: file.to_owned(),
                    text,
                    tree,
                    hidden,
                    masked,
                });
            }
        }
        // The schema accepted what the reader did not: never silent, whatever the reason.
        Err(error) if problems.is_empty() => {
            problems.push(Problem::new(Place::START, "", error.to_string()))
        }
        Err(_) => {}
    }
    Err(Problems {
        file: file.to_owned(),
        text,
        hidden,
        list: sorted(problems),
    })
}

fn sorted(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort_by_key(|problem| problem.place);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_problem_shows_a_secret_of_several_lines() {
        for login in [
            "bearer: |\n        hush-1\n        hush-2",
            "bearer: >-\n        hush-1\n        hush-2",
            "bearer: \"hush-1\n        hush-2\"",
            "bearer:\n        token: hush-1\n        token: hush-2\n        tokn: hush-3",
            "hush-1",
            "[hush-1, {a: hush-2}]",
            "{bearer: {hush-1}}",
        ] {
            let yaml = format!("clusters:\n  a:\n    credentials:\n      {login}\n    urll: x\n");
            let problems = parse("routes.yaml", yaml, Path::new("."));
            let told = problems.expect_err("is wrong");
            assert!(told.list.len() > 3, "{:?}", told.list);
            assert!(!told.render().contains("hush"), "{}", told.render());
            // Whatever a problem may be about.
            let lines = 1..told.text.lines().count();
            let list = lines.map(|line| Problem::new(Place { line, column: 1 }, "", String::new()));
            let all = Problems {
                list: list.collect(),
                ..told
            };
            assert!(!all.render().contains("hush"), "{}", all.render());
        }
    }
}
