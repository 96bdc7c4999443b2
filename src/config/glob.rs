//! Globs of `*` and `?`, the only patterns in `routes.yaml`.

/// A pattern: `*` stands for any text, also none; `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Makes a pattern; every text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Glob(pattern.into())
    }

    /// Tells what makes a pattern look like a regular expression, which it is not. Names of users,
    /// groups and queues hold neither alternatives nor a plus at their end; a job's name, or a
    /// header, may hold anything.
    pub fn looks_like_regex(pattern: &str, is_for_names: bool) -> Option<&'static str> {
        let class = pattern
            .find('[')
            .is_some_and(|at| pattern[at..].contains(']'));
        if pattern.starts_with('^') {
            Some("`^` stands for itself; a pattern always fits the whole text")
        } else if pattern.ends_with('$') {
            Some("`$` stands for itself; a pattern always fits the whole text")
        } else if pattern.contains(".*") || pattern.contains(".+") {
            Some("`.` stands for itself; `*` alone is any text")
        } else if class {
            Some("`[...]` stands for itself; there is only `*` and `?`")
        } else if has_escape(pattern) {
            Some("`\\` stands for itself; there is only `*` and `?`")
        } else if is_for_names && has_alternatives(pattern) {
            Some("`(...|...)` stands for itself; write a list of patterns")
        } else if is_for_names && ends_with_repetition(pattern) {
            Some("`+` stands for itself; `*` is any text")
        } else {
            None
        }
    }

    /// Tells whether the whole text matches. Linear in practice: only the last `*` is ever tried
    /// again.
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
                _ => match retry {
                    Some((star, from)) => {
                        retry = Some((star, from + 1));
                        (p, t) = (star + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

/// `\d+`, `\w+`, `\.`. A domain's user, `CORP\dave` or `CORP\d*`, has none of these.
fn has_escape(pattern: &str) -> bool {
    pattern.match_indices('\\').any(|(at, _)| {
        let mut next = pattern[at + 1..].chars();
        match next.next() {
            Some('.') => true,
            Some('d' | 'D' | 'w' | 'W' | 's' | 'S') => matches!(next.next(), Some('+' | '{')),
            _ => false,
        }
    })
}

/// `(a|b)`.
fn has_alternatives(pattern: &str) -> bool {
    let open = pattern.split_once('(').map(|(_, rest)| rest);
    open.and_then(|rest| rest.split_once(')'))
        .is_some_and(|(between, _)| between.contains('|'))
}

/// `a+`; but not `c++`.
fn ends_with_repetition(pattern: &str) -> bool {
    pattern
        .strip_suffix('+')
        .is_some_and(|rest| !rest.is_empty() && !rest.ends_with('+'))
}

/// Tells whether one of the patterns matches; an empty list matches nothing.
pub fn any(patterns: &[Glob], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn regular_expressions_are_noticed() {
        let is_told = |pattern, for_names| Glob::looks_like_regex(pattern, for_names).is_some();
        for pattern in [
            "^etl",
            "etl$",
            "etl-.*",
            "team.+",
            "user[0-9]",
            r"etl-\d+",
            r"a\.b",
        ] {
            assert!(
                is_told(pattern, true) && is_told(pattern, false),
                "{pattern}"
            );
        }
        for pattern in ["(a|b)*", "a+", "(etl|bi)-*"] {
            assert!(is_told(pattern, true), "{pattern}");
            // A job may be named so.
            assert!(!is_told(pattern, false), "{pattern}");
        }
        for pattern in [
            "etl-*",
            "a.b",
            "s3a://bucket/*.jar",
            "user?",
            "*",
            "c++",
            "+",
            r"CORP\dave",
            r"CORP\d*",
            "a+b@x.test",
            "night (eu)",
        ] {
            assert!(!is_told(pattern, true), "{pattern}");
        }
    }

    #[test]
    fn stars_and_question_marks_match() {
        let hits = [
            ("*", ""),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a?c", "abc"),
            ("a*b*c", "aXbYbZc"),
            ("é?", "éa"),
            ("", ""),
        ];
        let misses = [("a?", "a"), ("", "a"), ("a*b", "ac"), ("abc", "ab")];
        assert!(
            hits.iter()
                .all(|(pattern, text)| Glob::new(*pattern).matches(text))
        );
        assert!(
            !misses
                .iter()
                .any(|(pattern, text)| Glob::new(*pattern).matches(text))
        );
    }
}
