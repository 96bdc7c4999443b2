//! Reading a window of a log whose cluster knows nothing but positions: no tail, no total.
//!
//! First the end is found, from where it was the last time; then what is missing of the window is
//! read. Positions are always explicit: a cursor on the server would be shared with every other
//! reader.

use std::ops::Range;
use std::sync::Arc;

use livy_dialect::{LogPart, LogPlan, LogWindow, Operation};

use super::Reader;
use crate::fleet::reading::{Newest, Window};
use crate::fleet::{AskError, Upstream};
use crate::registry::Entry;

/// Lines asked for at once where the end is looked for. Most logs are shorter, and are then read in
/// one request.
const AT_ONCE: usize = 2_000;

/// Lines before the end that are read with it: a window that names no size has as many.
const TAIL: usize = 100;

/// Requests that look for the end: twice the bits of a position, and some.
const MOST_LOOKS: usize = 64;

/// Pages read of one window: two million lines.
const MOST_PAGES: usize = 200;

/// The lines that Livy puts around a batch's own.
const HEADS: [&str; 2] = ["stdout: ", "\nstderr: "];

/// Lines that were read, by the position of the first one.
type Piece = (usize, Vec<String>);

impl Reader {
    /// Reads a window, `size` lines at once; `heads`: with Livy's section headers around the lines.
    pub(super) async fn read_window(
        &self,
        entry: &Arc<Entry>,
        upstream: &Upstream,
        window: LogWindow,
        size: i32,
        heads: bool,
    ) -> Result<LogPart, AskError> {
        let (total, mut pieces) = self.find_end(entry, upstream).await?;
        let above = usize::from(heads);
        let (from, shown) = window.resolve(total + 2 * above);
        let wanted = own_lines(&shown, above, total);
        let size = usize::try_from(size).unwrap_or(AT_ONCE).max(1);
        let missing = missing(&pieces, &wanted);
        let mut at = missing.start;
        for _ in 0..MOST_PAGES {
            if at >= missing.end {
                break;
            }
            let part = self
                .lines_at(entry, upstream, at, size.min(missing.end - at))
                .await?;
            if part.is_empty() {
                // It became shorter.
                break;
            }
            at += part.len();
            pieces.push((at - part.len(), part));
        }
        let lines = shown.filter_map(|line| match line {
            0 if heads => Some(HEADS[0].to_owned()),
            line if heads && line == total + 1 => Some(HEADS[1].to_owned()),
            line => line_of(&pieces, line - above),
        });
        Ok(LogPart {
            upstream_id: None,
            from: Some(from),
            total: i64::try_from(total + 2 * above).ok(),
            lines: lines.collect(),
        })
    }

    /// Finds out how many lines there are, and notes the last ones. Returns what was read as well.
    async fn find_end(
        &self,
        entry: &Arc<Entry>,
        upstream: &Upstream,
    ) -> Result<(usize, Vec<Piece>), AskError> {
        let known = Some(entry.lines()).filter(|lines| *lines > 0);
        let mut newest = Newest::of(AT_ONCE, TAIL, known);
        let mut pieces: Vec<Piece> = Vec::new();
        for _ in 0..MOST_LOOKS {
            let Some(Window { from, size }) = newest.next() else {
                break;
            };
            let lines = self.lines_at(entry, upstream, from, size).await?;
            newest.saw(Window { from, size }, lines.len(), None);
            pieces.push((from, lines));
        }
        let total = newest.end();
        entry.note_lines(total);
        if let Some((_, last)) = pieces.last() {
            let heads = matches!(
                entry.with_ref(|batch| upstream.dialect().log(batch, LogWindow::default())),
                Some(LogPlan::Pages { headers: true, .. })
            );
            let foot = heads.then(|| HEADS[1].to_owned());
            let shown: Vec<String> = last.iter().cloned().chain(foot).collect();
            self.registry().observe_log(entry, &shown);
        }
        Ok((total, pieces))
    }

    /// Reads the last lines of a batch that has ended, for the day when its cluster has them no
    /// longer. Failing to costs nothing but those.
    pub(super) fn keep_last_lines(&self, entry: &Arc<Entry>, upstream: &Arc<Upstream>) {
        let plan = entry.with_ref(|batch| upstream.dialect().log(batch, LogWindow::default()));
        if !matches!(plan, Some(LogPlan::Pages { .. })) || upstream.needs_a_caller() {
            return;
        }
        let (reader, entry, upstream) = (self.clone(), entry.clone(), upstream.clone());
        self.gateway.tasks.spawn(async move {
            let find = async {
                let _place = upstream.reading.logs.acquire().await;
                reader.find_end(&entry, &upstream).await
            };
            let read = tokio::select! {
                () = reader.gateway.stop.cancelled() => return,
                read = find => read,
            };
            if let Err(error) = read {
                tracing::debug!(batch = %entry.id, cluster = %entry.cluster, %error, "the last lines of a log could not be read");
            }
        });
    }

    async fn lines_at(
        &self,
        entry: &Entry,
        upstream: &Upstream,
        from: usize,
        size: usize,
    ) -> Result<Vec<String>, AskError> {
        let dialect = upstream.dialect();
        let position = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let (from, lines) = (position(from), position(size));
        let Some(request) = entry.with_ref(|batch| dialect.log_page(batch, from, lines)) else {
            return Ok(Vec::new());
        };
        let mut part = upstream
            .ask(Operation::GetLog, &request, &self.exchange, |response| {
                dialect.decode_log(response)
            })
            .await?;
        // Whoever gives more than was asked for must not move what is behind.
        part.lines.truncate(size);
        Ok(part.lines)
    }
}

/// Returns which of the batch's own lines a window shows.
fn own_lines(shown: &Range<usize>, above: usize, total: usize) -> Range<usize> {
    let line = |at: usize| at.saturating_sub(above).min(total);
    line(shown.start)..line(shown.end).max(line(shown.start))
}

/// Returns what is missing of the wanted lines: all but what was read at their beginning or end.
fn missing(pieces: &[Piece], wanted: &Range<usize>) -> Range<usize> {
    let mut left = wanted.clone();
    // Each piece may make the next one touch what is left.
    for _ in pieces {
        for (from, lines) in pieces {
            let to = from + lines.len();
            if (*from..to).contains(&left.start) {
                left.start = to.min(left.end);
            }
            if *from < left.end && left.end <= to {
                left.end = (*from).max(left.start);
            }
        }
    }
    left
}

fn line_of(pieces: &[Piece], line: usize) -> Option<String> {
    // What was read last is newest.
    let piece = pieces
        .iter()
        .rev()
        .find(|(from, lines)| (*from..from + lines.len()).contains(&line));
    piece.map(|(from, lines)| lines[line - from].clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(range: Range<usize>) -> Piece {
        (range.start, range.map(|line| line.to_string()).collect())
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let pieces = [piece(0..10), piece(8..20), piece(90..100)];
        assert_eq!(missing(&pieces, &(0..100)), 20..90);
        assert!(missing(&pieces, &(3..15)).is_empty());
        assert!(missing(&pieces, &(95..100)).is_empty());
        assert_eq!(missing(&pieces, &(40..50)), 40..50);
        assert_eq!(missing(&pieces, &(85..95)), 85..90);
        assert_eq!(missing(&[], &(0..3)), 0..3);
    }

    #[test]
    fn heads_are_no_lines_of_the_batch() {
        assert_eq!(own_lines(&(0..12), 1, 10), 0..10);
        assert_eq!(own_lines(&(0..1), 1, 10), 0..0);
        assert_eq!(own_lines(&(11..12), 1, 10), 10..10);
        assert_eq!(own_lines(&(2..4), 0, 10), 2..4);
    }

    proptest! {
        #[test]
        fn nothing_is_left_out(
            ranges in proptest::collection::vec((0usize..60, 0usize..30), 0..5), start in 0usize..60, size in 0usize..60,
        ) {
            let mut pieces: Vec<Piece> = ranges.into_iter().map(|(from, size)| piece(from..from + size)).collect();
            let wanted = start..start + size;
            let missing = missing(&pieces, &wanted);
            prop_assert!(missing.start >= wanted.start && missing.end <= wanted.end);
            pieces.push(piece(missing));
            for line in wanted {
                prop_assert_eq!(line_of(&pieces, line), Some(line.to_string()));
            }
        }
    }
}
