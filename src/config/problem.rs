//! A problem of the file, and how it is shown: path, line and column, what, the line itself, what
//! to write instead.

use std::fmt::Write as _;

use serde::Serialize;

/// What stands for something hidden.
const MASK: &str = "***";

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

/// A part of the file that no problem may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Its first character.
    pub from: Place,
    /// What follows its last one.
    pub to: Place,
}

/// All problems of a file, in the file's order.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The file, as it was named.
    pub file: String,
    /// Its text, for the snippets.
    pub text: String,
    /// What snippets don't show of it.
    pub hidden: Vec<Hidden>,
    /// The problems; never empty.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Returns a line without what is hidden, and where a column of it is then.
    fn snippet(&self, line: usize, column: usize) -> Option<(String, usize)> {
        let source = self.text.lines().nth(line.saturating_sub(1))?;
        let is_hidden = |at: usize| {
            let place = Place { line, column: at };
            let holds = |hidden: &Hidden| hidden.from <= place && place < hidden.to;
            self.hidden.iter().any(holds)
        };
        let (mut shown, mut caret) = (String::new(), None);
        let mut was_hidden = false;
        for (at, sign) in source.chars().enumerate() {
            let hides = is_hidden(at + 1);
            if at + 1 == column {
                // In the middle of what is hidden it points to where that begins.
                let back = if hides && was_hidden { MASK.len() } else { 0 };
                caret = Some(shown.chars().count() + 1 - back);
            }
            match hides {
                true if !was_hidden => shown.push_str(MASK),
                true => {}
                false => shown.push(sign),
            }
            was_hidden = hides;
        }
        let end = shown.chars().count() + 1;
        Some((shown, caret.unwrap_or(end)))
    }

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
            if let Some((source, column)) = self.snippet(line, column) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_leaves_out_what_is_hidden() {
        let place = |line, column| Place { line, column };
        let problems = Problems {
            file: String::new(),
            text: "a: {b: secret, c: d}\nmore, c".to_owned(),
            hidden: vec![
                Hidden {
                    from: place(1, 8),
                    to: place(1, 14),
                },
                Hidden {
                    from: place(1, 20),
                    to: place(2, 5),
                },
            ],
            list: Vec::new(),
        };
        let shown = |line, column| problems.snippet(line, column).expect("is there");
        assert_eq!(shown(1, 16), ("a: {b: ***, c: d***".to_owned(), 13));
        assert_eq!(shown(1, 8).1, 8);
        assert_eq!(shown(1, 11).1, 8);
        assert_eq!(shown(2, 7), ("***, c".to_owned(), 6));
        assert_eq!(problems.snippet(3, 1), None);
    }
}
