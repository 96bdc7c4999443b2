//! What the suite found, as a table, as JSON, as JUnit XML.

use std::time::Duration;

use quick_xml::events::{BytesText, Event};
use quick_xml::writer::Writer;
use serde_json::{Value, json};

use super::catalogue::{Check, Profile};

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint does what the check says.
    Passed,
    /// It does not; what was seen.
    Failed(String),
    /// The check could not be made; why.
    Skipped(String),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Skipped(_) => "skipped",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Verdict::Passed => None,
            Verdict::Failed(why) | Verdict::Skipped(why) => Some(why),
        }
    }
}

/// One check's verdict.
#[derive(Clone, Debug)]
pub struct Line {
    /// The check.
    pub check: &'static Check,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// What the suite found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The endpoint.
    pub url: String,
    /// What it was held to.
    pub profile: Profile,
    /// The verdicts, in the catalogue's order.
    pub lines: Vec<Line>,
    /// What was submitted and could not be removed.
    pub left_behind: Vec<String>,
    /// How long it took, cleaning up included.
    pub took: Duration,
    /// Whether it was ended early.
    pub stopped: bool,
}

impl Report {
    /// Tells whether the endpoint keeps every promise that could be checked, and nothing was left
    /// behind.
    pub fn passed(&self) -> bool {
        self.count("failed") == 0 && self.left_behind.is_empty() && !self.stopped
    }

    fn count(&self, word: &str) -> usize {
        self.lines
            .iter()
            .filter(|line| line.verdict.word() == word)
            .count()
    }

    fn summary(&self) -> String {
        let [passed, failed, skipped] =
            ["passed", "failed", "skipped"].map(|word| self.count(word));
        let end = if self.stopped {
            "; stopped before the end"
        } else {
            ""
        };
        format!(
            "{} checks: {passed} passed, {failed} failed, {skipped} skipped, in {:.1} s{end}",
            self.lines.len(),
            self.took.as_secs_f64()
        )
    }

    /// Writes a table: a line per check, what was seen below the ones that did not pass.
    pub fn text(&self) -> String {
        let mut out = format!("{} as {}\n\n", self.url, self.profile.as_str());
        for line in &self.lines {
            let says = line.check.says(self.profile).unwrap_or_default();
            out.push_str(&format!(
                "{:<7} {:<20} {says}\n",
                line.verdict.word(),
                line.check.id
            ));
            if let Some(why) = line.verdict.why() {
                out.push_str(&format!(
                    "{:28} seen: {why}\n{:28} from: {}\n",
                    "", "", line.check.source
                ));
            }
        }
        for left in &self.left_behind {
            out.push_str(&format!("\nleft behind, remove it by hand: {left}"));
        }
        out.push_str(&format!("\n{}\n", self.summary()));
        out
    }

    /// Writes a JSON object.
    pub fn json(&self) -> String {
        let checks: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({"id": line.check.id, "says": line.check.says(self.profile), "source": line.check.source,
                    "verdict": line.verdict.word(), "why": line.verdict.why(), "seconds": line.took.as_secs_f64()})
            })
            .collect();
        let report = json!({
            "url": self.url, "profile": self.profile.as_str(), "ok": self.passed(), "passed": self.count("passed"),
            "failed": self.count("failed"), "skipped": self.count("skipped"), "stopped": self.stopped, "left_behind": self.left_behind,
            "seconds": self.took.as_secs_f64(), "checks": checks,
        });
        format!("{report:#}\n")
    }

    /// Writes JUnit XML, as CI servers read it: one suite, one case per check, its area as the
    /// class.
    pub fn junit(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // Writing into memory does not fail.
        let _ = self.write_junit(&mut writer);
        let body = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}\n")
    }

    fn write_junit(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let [tests, failures, skipped] = [
            self.lines.len(),
            self.count("failed"),
            self.count("skipped"),
        ]
        .map(|count| count.to_string());
        let time = format!("{:.3}", self.took.as_secs_f64());
        let suite = [
            ("name", "livy-gateway certify"),
            ("tests", tests.as_str()),
            ("failures", failures.as_str()),
            ("errors", "0"),
            ("skipped", skipped.as_str()),
            ("time", time.as_str()),
        ];
        writer
            .create_element("testsuite")
            .with_attributes(suite)
            .write_inner_content(|writer| {
                writer
                    .create_element("properties")
                    .write_inner_content(|writer| {
                        for property in [
                            ("url", self.url.as_str()),
                            ("profile", self.profile.as_str()),
                        ] {
                            writer
                                .create_element("property")
                                .with_attributes([("name", property.0), ("value", property.1)])
                                .write_empty()?;
                        }
                        Ok(())
                    })?;
                self.lines
                    .iter()
                    .try_for_each(|line| self.write_case(writer, line))
            })?;
        Ok(())
    }

    fn write_case(&self, writer: &mut Writer<Vec<u8>>, line: &Line) -> std::io::Result<()> {
        let area = line.check.id.split('.').next().unwrap_or_default();
        let time = format!("{:.3}", line.took.as_secs_f64());
        let class = format!("certify.{}.{area}", self.profile.as_str());
        let case = writer.create_element("testcase").with_attributes([
            ("classname", class.as_str()),
            ("name", line.check.id),
            ("time", time.as_str()),
        ]);
        let says = line.check.says(self.profile).unwrap_or_default();
        match &line.verdict {
            Verdict::Passed => case.write_empty()?,
            Verdict::Failed(why) => case.write_inner_content(|writer| {
                let text = format!("{}\nsource: {}", printable(why), line.check.source);
                writer
                    .create_element("failure")
                    .with_attribute(("message", says))
                    .write_text_content(BytesText::new(&text))?;
                Ok(())
            })?,
            Verdict::Skipped(why) => case.write_inner_content(|writer| {
                writer
                    .create_element("skipped")
                    .with_attribute(("message", printable(why).as_str()))
                    .write_empty()?;
                Ok(())
            })?,
        };
        writer.write_event(Event::Text(BytesText::new("")))
    }
}

/// XML 1.0 has no way to write most control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|one| {
            if one.is_control() && one != '\n' {
                '\u{fffd}'
            } else {
                one
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::CHECKS;
    use super::*;

    fn report() -> Report {
        let line = |at: usize, verdict| Line {
            check: &CHECKS[at],
            verdict,
            took: Duration::from_millis(5),
        };
        Report {
            url: "http://livy.example.com/".into(),
            profile: Profile::Gateway,
            lines: vec![
                line(0, Verdict::Passed),
                line(1, Verdict::Failed("<b> & \u{1b}\"quoted\"".into())),
                line(2, Verdict::Skipped("no \"batch\"".into())),
            ],
            left_behind: Vec::new(),
            took: Duration::from_millis(1500),
            stopped: false,
        }
    }

    #[test]
    fn a_table_tells_what_was_seen_and_counts() {
        let text = report().text();
        assert!(
            text.contains("failed  submit.batch") && text.contains("seen: <b> & "),
            "{text}"
        );
        assert!(
            text.ends_with("3 checks: 1 passed, 1 failed, 1 skipped, in 1.5 s\n"),
            "{text}"
        );
    }

    #[test]
    fn junit_is_escaped_and_counts() {
        let xml = report().junit();
        assert!(
            xml.contains(r#"tests="3" failures="1" errors="0" skipped="1" time="1.500""#),
            "{xml}"
        );
        assert!(xml.contains("&lt;b&gt; &amp; \u{fffd}"), "{xml}");
        let mut reader = quick_xml::Reader::from_str(&xml);
        let mut cases = 0;
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Start(start) | Event::Empty(start)
                    if start.name().as_ref() == "testcase" =>
                {
                    cases += 1
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(cases, 3);
    }

    #[test]
    fn what_is_left_behind_or_stopped_is_no_pass() {
        let good = Report {
            lines: vec![report().lines[0].clone()],
            ..report()
        };
        assert!(good.passed());
        assert!(
            !Report {
                left_behind: vec!["x".into()],
                ..good.clone()
            }
            .passed()
        );
        assert!(
            !Report {
                stopped: true,
                ..good
            }
            .passed()
        );
        assert!(!report().passed());
    }
}
