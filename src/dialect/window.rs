//! Livy's two paging windows, computed without 32-bit overflow.
//!
//! Source: `SessionServlet.scala` (list: `slice(from, from + size)`) and
//! `BatchSessionServlet`/`SessionServlet.serializeLogs` (log: `from` absent or negative = the tail,
//! `size` negative = all).

/// How many lines or batches Livy returns when the client names no `size`.
pub const DEFAULT_SIZE: i32 = 100;

/// A list window as the client asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListWindow {
    /// Position, not id; may be negative.
    pub from: i32,
    /// How many; zero or negative gives none.
    pub size: i32,
}

impl Default for ListWindow {
    fn default() -> Self {
        ListWindow {
            from: 0,
            size: DEFAULT_SIZE,
        }
    }
}

impl ListWindow {
    /// Returns the half-open range of positions `[start, end)` within `total` items.
    pub fn range(self, total: usize) -> std::ops::Range<usize> {
        let clamp = |at: i64| usize::try_from(at.max(0)).unwrap_or(usize::MAX).min(total);
        let start = clamp(i64::from(self.from));
        let end = clamp(i64::from(self.from) + i64::from(self.size));
        start..end.max(start)
    }
}

/// A log window as the client asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogWindow {
    /// First line; absent or negative means the tail.
    pub from: Option<i32>,
    /// How many lines; absent means 100, negative means all.
    pub size: Option<i32>,
}

impl LogWindow {
    /// Returns the reply's `from` and the half-open range of lines, within `total` lines.
    ///
    /// The reply's `from` is what Livy echoes: the computed start, or the asked start even when it
    /// lies past the end.
    pub fn resolve(self, total: usize) -> (i64, std::ops::Range<usize>) {
        let lines = i64::try_from(total).unwrap_or(i64::MAX);
        let size = match self.size.unwrap_or(DEFAULT_SIZE) {
            size if size < 0 => lines,
            size => i64::from(size),
        };
        let from = match self.from {
            Some(from) if from >= 0 => i64::from(from),
            _ => (lines - size).max(0),
        };
        let at = |line: i64| usize::try_from(line.clamp(0, lines)).unwrap_or(total);
        (from, at(from)..at(from.saturating_add(size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(from: Option<i32>, size: Option<i32>) -> (i64, usize) {
        let (from, range) = LogWindow { from, size }.resolve(28);
        (from, range.len())
    }

    #[test]
    fn log_windows_match_a_real_livy() {
        // The table of a real Livy with a log of 28 lines; the two overflow rows are the ones we
        // answer better.
        assert_eq!(log(None, None), (0, 28));
        assert_eq!(log(Some(0), Some(3)), (0, 3));
        assert_eq!(log(None, Some(3)), (25, 3));
        assert_eq!(log(Some(-1), Some(3)), (25, 3));
        assert_eq!(log(None, Some(0)), (28, 0));
        assert_eq!(log(None, Some(-1)), (0, 28));
        assert_eq!(log(Some(25), Some(10)), (25, 3));
        assert_eq!(log(Some(28), Some(5)), (28, 0));
        assert_eq!(log(Some(1000), Some(5)), (1000, 0));
        assert_eq!(log(Some(5), Some(-1)), (5, 23));
        assert_eq!(log(Some(5), Some(i32::MAX)), (5, 23));
        assert_eq!(log(Some(0), Some(i32::MAX)), (0, 28));
    }

    #[test]
    fn list_windows_match_a_real_livy() {
        let range = |from, size| ListWindow { from, size }.range(19);
        assert_eq!(range(-3, 4), 0..1);
        assert_eq!(range(-5, 2), 0..0);
        assert!(range(0, 0).is_empty() && range(0, -1).is_empty() && range(100, 100).is_empty());
        assert_eq!(range(1, i32::MAX), 1..19);
        assert_eq!(range(0, 100), 0..19);
    }
}
