//! A problem of the file, and how it is shown: path, line and column, what, the line itself, what
//! to write instead.

use std::fmt::Write as _;

use serde::Serialize;

/// A place in the file; both numbers begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Place {
    /// The file's beginning, for problems of the file as a whole.
    pub const START: Place = Place { line: 1, column: 1 };
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the file.
    #[serde(flatten)]
    pub place: Place,
    /// Which key, such as `clusters.onprem.url`.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead, where that is known.
    pub remedy: Option<String>,
}

impl Problem {
    /// Makes a problem without a remedy.
    pub fn new(place: Place, path: &str, what: String) -> Self {
        Problem {
            place,
            path: path.to_owned(),
            what,
            remedy: None,
        }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(text.into());
        self
    }
}

/// All problems of a file, in the file's order.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The file, as it was named.
    pub file: String,
    /// Its text, for the snippets.
    pub text: String,
    /// The problems; never empty.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Writes every problem with its line from the file.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for problem in &self.list {
            let Place { line, column } = problem.place;
            let at = if problem.path.is_empty() {
                String::new()
            } else {
                format!("{}: ", problem.path)
            };
            let _ = writeln!(out, "error: {at}{}", problem.what);
            let _ = writeln!(out, "  --> {}:{line}:{column}", self.file);
            if let Some(source) = self.text.lines().nth(line.saturating_sub(1)) {
                let margin = line.to_string().len();
                let _ = writeln!(
                    out,
                    "{:margin$} |\n{line} | {source}\n{:margin$} | {:>column$}",
                    "", "", "^"
                );
            }
            if let Some(remedy) = &problem.remedy {
                let _ = writeln!(out, "  help: {remedy}");
            }
            out.push('\n');
        }
        let count = self.list.len();
        let _ = writeln!(
            out,
            "{}: {count} problem{}",
            self.file,
            if count == 1 { "" } else { "s" }
        );
        out
    }
}
