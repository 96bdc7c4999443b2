//! `registry import`: lines into a registry, all of them or none.
//!
//! Every line is read and judged, also after one that is wrong, so that one run tells all mistakes;
//! all of it is one transaction, which stands only if there was none. The same file twice changes
//! nothing; what the registry knows more of stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use super::book::{Book, Head};
use super::bring::{Bring, There, bring};
use super::line::{FIELDS, FORMAT, Line};
use super::record::Record;
use crate::clock::Moment;

/// How many lines are judged and written at once.
const AT_ONCE: usize = 1_000;

/// How many mistakes are told one by one.
const TOLD: usize = 50;

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Batches that were not there.
    pub new: u64,
    /// Batches that were there, and that the file knows more of.
    pub newer: u64,
    /// Batches that are there just so.
    pub same: u64,
    /// Batches that the registry knows more of.
    pub older: u64,
    /// How many lines name a cluster that the configuration does not have.
    pub strange: BTreeMap<String, u64>,
}

/// What is wrong with a file: a place in it and a sentence, each; and how many more there are.
#[derive(Debug, Default)]
struct Mistakes {
    list: Vec<(u64, String)>,
    more: u64,
}

impl Mistakes {
    fn add(&mut self, line: u64, what: String) {
        match self.list.len() < TOLD {
            true => self.list.push((line, what)),
            false => self.more += 1,
        }
    }

    fn is_none(&self) -> bool {
        self.list.is_empty()
    }

    fn render(mut self, file: &str) -> String {
        self.list.sort();
        let lines = self
            .list
            .iter()
            .map(|(line, what)| format!("{file}:{line}: {what}\n"));
        let mut text: String = lines.collect();
        if self.more > 0 {
            text.push_str(&format!("and {} more\n", self.more));
        }
        text + "nothing was imported"
    }
}

/// An import under way.
struct Import<'a> {
    book: &'a mut dyn Book,
    now: Moment,
    clusters: &'a BTreeSet<String>,
    head: Head,
    has_head: bool,
    done: Imported,
    mistakes: Mistakes,
    waiting: Vec<(u64, Record, bool)>,
}

/// Reads lines, and writes what is new into a book. `file` names them for people; `clusters` are
/// those that the configuration has. With `dry`, nothing is left written.
pub(super) async fn import(
    mut book: Box<dyn Book>,
    lines: &mut (dyn BufRead + Send),
    file: &str,
    clusters: &BTreeSet<String>,
    wall_ms: i64,
    dry: bool,
) -> Result<Imported, String> {
    let now = Moment {
        wall_ms,
        up_ms: book.head().await?.uptime_ms,
    };
    let mut import = Import {
        book: book.as_mut(),
        now,
        clusters,
        head: Head::default(),
        has_head: false,
        done: Imported::default(),
        mistakes: Mistakes::default(),
        waiting: Vec::new(),
    };
    let (mut number, mut batches, mut bytes) = (0, 0, Vec::new());
    loop {
        bytes.clear();
        let read = lines.read_until(b'\n', &mut bytes);
        if read.map_err(|error| format!("{file}: {error}"))? == 0 {
            break;
        }
        number += 1;
        let text = bytes.trim_ascii();
        if !text.is_empty() {
            batches += u64::from(import.take(number, text));
        }
        if import.waiting.len() == AT_ONCE {
            import.judge().await?;
        }
    }
    import.judge().await?;
    if import.has_head && import.head.batches != batches {
        let what = format!(
            "the file has {batches} batches, and says that it has {}: it is cut short, or was edited; \
             if it is as it should be, correct `batches` in its first line",
            import.head.batches
        );
        import.mistakes.add(number, what);
    }
    let Import {
        head,
        done,
        mistakes,
        ..
    } = import;
    match mistakes.is_none() {
        false => Err(mistakes.render(file)),
        true if dry => Ok(done),
        true => book.finish(head).await.map(|()| done),
    }
}

impl Import<'_> {
    /// Reads a line; returns whether it is one of a batch.
    fn take(&mut self, number: u64, text: &[u8]) -> bool {
        if is_head(text) {
            match serde_json::from_slice(text) {
                Ok(head) => self.take_head(number, head),
                Err(error) => self.mistakes.add(number, in_words(&error)),
            }
            return false;
        }
        let line = serde_json::from_slice::<Line>(text).map_err(|error| in_words(&error));
        let record = line.and_then(|line| {
            let (by_hand, record) = (line.is_by_hand(), line.record(self.now)?);
            match self.book.objection(&record) {
                Some(why) => Err(why.to_owned()),
                None => Ok((record, by_hand)),
            }
        });
        match record {
            Ok((record, by_hand)) => self.waiting.push((number, record, by_hand)),
            Err(what) => self.mistakes.add(number, what),
        }
        true
    }

    fn take_head(&mut self, number: u64, head: Head) {
        if head.livy_gateway_registry != FORMAT {
            let what = format!(
                "the file is of format {}, and this version reads {FORMAT}",
                head.livy_gateway_registry
            );
            self.mistakes.add(number, what);
        }
        if let Some(order) = head
            .orders
            .iter()
            .find(|order| !["drain", "disable"].contains(&order.wish.as_str()))
        {
            self.mistakes.add(
                number,
                format!("there is no order {:?}: `drain` or `disable`", order.wish),
            );
        }
        self.has_head = true;
        // Files may be put together.
        self.head.batches += head.batches;
        self.head.highest_id = self.head.highest_id.max(head.highest_id);
        self.head.uptime_ms = self.head.uptime_ms.max(head.uptime_ms);
        self.head.orders.extend(head.orders);
    }

    /// Decides about the lines that wait, and writes what is new.
    async fn judge(&mut self) -> Result<(), String> {
        let (mut numbers, mut records) = (Vec::new(), Vec::new());
        for (number, record, by_hand) in self.waiting.drain(..) {
            numbers.push((number, by_hand));
            records.push(record);
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut there: There = self.book.there(&records).await?;
        let mut wanted: BTreeMap<i32, Record> = BTreeMap::new();
        for ((number, by_hand), record) in numbers.into_iter().zip(records) {
            if !self.clusters.contains(&record.row.identity.cluster) {
                *self
                    .done
                    .strange
                    .entry(record.row.identity.cluster.clone())
                    .or_default() += 1;
            }
            match bring(&there, &record, by_hand) {
                Bring::New => self.done.new += 1,
                Bring::Newer => self.done.newer += 1,
                Bring::Same => {
                    self.done.same += 1;
                    continue;
                }
                Bring::Older => {
                    self.done.older += 1;
                    continue;
                }
                Bring::Conflict(why) => {
                    self.mistakes
                        .add(number, format!("batch {}: {why}", record.id()));
                    continue;
                }
            }
            there.put(&record);
            wanted.insert(record.id(), record);
        }
        // After a mistake nothing of it will stand; what is left is read for its own mistakes, which
        // may be against lines before it.
        self.book.put(wanted.into_values().collect()).await
    }
}

/// Tells the line about the whole from that of a batch.
fn is_head(text: &[u8]) -> bool {
    let name = b"\"livy_gateway_registry\"";
    text.windows(name.len()).take(64).any(|part| part == name)
}

/// Puts what is wrong with a line's JSON into words; the line is named by whoever tells it.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // "at line 1": there is but one.
    let (what, _) = text.split_once(" at line ").unwrap_or((text.as_str(), ""));
    let (what, _) = what
        .split_once(", expected one of `id`")
        .unwrap_or((what, ""));
    let field = what
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let near = |field: &str| {
        let far = |known: &&&str| strsim::damerau_levenshtein(field, known);
        let near = FIELDS
            .iter()
            .min_by_key(far)
            .filter(|known| far(known) <= 2);
        near.map_or(String::new(), |known| format!("; did you mean `{known}`?"))
    };
    let place = match error.is_syntax() || error.is_eof() {
        true => format!("it is no JSON at column {}: ", error.column()),
        false => String::new(),
    };
    format!("{place}{what}{}", field.map(near).unwrap_or_default())
}
