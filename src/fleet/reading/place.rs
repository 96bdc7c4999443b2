//! Which rows of a list to ask for next: the newest ones, and, page by page, all of them. Values
//! in, values out.
//!
//! Every upstream lists the oldest batch first and names positions, not ids. A list grows at its
//! end, and loses rows anywhere: what moves then moves to the front.

/// Rows asked for at once. A Livy's rows are one to three kilobytes: some megabytes, where 16 are
/// read.
const PAGE: usize = 2_000;

/// Rows at the end that are read again the next time, so that what vanished in front of them does
/// not hide what is new.
const OVERLAP: usize = 100;

/// Pages read one behind the other before the end is looked for in strides.
const PATIENCE: usize = 2;

/// A piece of a list: the position of its first row, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The position of the first row.
    pub from: usize,
    /// How many.
    pub size: usize,
}

/// Finds the end of a list and reads it; all of a list that fits into one page.
#[derive(Clone, Debug)]
pub struct Newest {
    /// So many rows there are at least.
    least: usize,
    /// So many at most, where that is known.
    most: Option<usize>,
    next: Option<Window>,
    /// What is asked for at once: less than the most where rows are large.
    size: usize,
    at_once: usize,
    /// How many rows before the end are read again; as many as fit where none were read before.
    overlap: usize,
    pages: usize,
    is_whole: bool,
}

impl Newest {
    /// Begins where the list ended the last time.
    pub fn new(ended_at: Option<usize>) -> Newest {
        Newest::of(PAGE, OVERLAP, ended_at)
    }

    /// The same for anything that is read by position; `size` rows at once, of which `overlap` may
    /// have been read before.
    pub fn of(size: usize, overlap: usize, ended_at: Option<usize>) -> Newest {
        let from = ended_at.filter(|end| end + overlap > size);
        let from = from.map_or(0, |end| end.saturating_sub(overlap));
        Newest {
            least: 0,
            most: None,
            next: Some(Window { from, size }),
            size,
            at_once: size,
            overlap: ended_at.map_or(size, |_| overlap),
            pages: 0,
            is_whole: false,
        }
    }

    /// Returns what to read next; `None` when the end was read.
    pub fn next(&self) -> Option<Window> {
        self.next
    }

    /// Tells whether the last window was all of the list.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Returns how long the list is, once its end was read.
    pub fn end(&self) -> usize {
        self.least
    }

    /// Notes what a window brought; `total` where the upstream says how many there are.
    pub fn saw(&mut self, window: Window, rows: usize, total: Option<usize>) {
        let Window { from, size } = window;
        self.pages += 1;
        self.size = (2 * self.size).min(self.at_once);
        let beyond = from + rows;
        match rows {
            _ if total.is_some_and(|total| total >= beyond || rows == 0) => {
                self.least = total.unwrap_or(beyond);
                self.most = Some(self.least);
            }
            0 => {
                self.most = Some(from);
                // It has become shorter than it was known to be.
                if self.least > from {
                    self.least = 0;
                }
            }
            rows if rows < size => (self.least, self.most) = (beyond, Some(beyond)),
            _ => {
                self.least = self.least.max(beyond);
                // It has become longer.
                self.most = self.most.filter(|most| *most >= self.least);
            }
        }
        // The end was seen if this window goes up to it, and shows more than nothing of it.
        let at_end = self.most == Some(self.least) && beyond >= self.least;
        self.is_whole = at_end && from == 0;
        self.next = match self.most {
            _ if at_end && (rows > 0 || self.least == 0) => None,
            Some(most) if most - self.least <= self.size / 2 => {
                let again = self.overlap.min(self.size - (most - self.least));
                Some(self.window(self.least.saturating_sub(again.max(1))))
            }
            // One row tells whether there are so many.
            Some(most) => Some(Window {
                from: self.least.midpoint(most),
                size: 1,
            }),
            None if self.pages <= PATIENCE => Some(self.window(self.least)),
            None => Some(Window {
                from: 2 * self.least,
                size: 1,
            }),
        };
        // An upstream that says what it does not show is not asked the same for ever.
        self.next = self.next.filter(|next| *next != window);
    }

    /// Notes that a window was too large to be read. One row that is, is passed over.
    pub fn too_large(&mut self, window: Window) {
        if window.size <= 1 {
            return self.saw(window, 1, None);
        }
        self.size = (window.size / 8).max(1);
        self.next = Some(self.window(window.from));
    }

    fn window(&self, from: usize) -> Window {
        let size = self.size;
        Window { from, size }
    }
}

/// Reads a whole list in pages, the newest first: what vanishes in between moves rows to the front,
/// where they are still read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// What is below this position is still to be read.
    below: usize,
    size: usize,
}

impl Pass {
    /// Begins at the end of a list.
    pub fn new(end: usize) -> Pass {
        Pass {
            below: end,
            size: PAGE,
        }
    }

    /// Returns what to read next; `None` when all was read.
    pub fn next(&self) -> Option<Window> {
        let size = self.size.min(self.below);
        (size > 0).then(|| Window {
            from: self.below - size,
            size,
        })
    }

    /// Notes that a window was read.
    pub fn read(&mut self, window: Window) {
        self.below = self.below.min(window.from);
        // Large rows may be few.
        self.size = (self.size * 2).min(PAGE);
    }

    /// Notes that a window was too large to be read. One row that is, is passed over.
    pub fn too_large(&mut self, window: Window) {
        match window.size {
            0 | 1 => self.below = self.below.min(window.from),
            size => self.size = (size / 8).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the end of a list of so many rows; returns the windows, and what it found.
    fn reads(rows: usize, ended_at: Option<usize>, says_total: bool) -> (Vec<Window>, Newest) {
        let (mut newest, mut windows) = (Newest::new(ended_at), Vec::new());
        while let Some(window) = newest.next() {
            windows.push(window);
            assert!(windows.len() < 100, "{rows} {ended_at:?}: {windows:?}");
            let shown = rows.saturating_sub(window.from).min(window.size);
            newest.saw(window, shown, says_total.then_some(rows));
        }
        (windows, newest)
    }

    #[test]
    fn a_short_list_is_one_request() {
        for says_total in [true, false] {
            for rows in [0, 1, 100, PAGE - 1] {
                for ended_at in [None, Some(rows.min(PAGE - OVERLAP)), Some(0)] {
                    let (windows, newest) = reads(rows, ended_at, says_total);
                    assert_eq!((windows.len(), newest.is_whole()), (1, true), "{rows}");
                }
            }
        }
        assert_eq!(reads(PAGE, None, true).0.len(), 1);
    }

    #[test]
    fn a_long_list_is_one_request_once_its_end_is_known() {
        let (windows, newest) = reads(50_003, Some(50_000), false);
        assert_eq!((windows.len(), newest.end()), (1, 50_003));
        assert_eq!(windows[0].from, 50_000 - OVERLAP);
        assert!(!newest.is_whole());
        // A total leads there at once, steps of one row in a few.
        assert_eq!(reads(50_000, None, true).0.len(), 2);
        let (windows, _) = reads(50_000, None, false);
        let pages = windows.iter().filter(|window| window.size > 1);
        assert!(pages.count() <= 4 && windows.len() < 30, "{windows:?}");
    }

    #[test]
    fn a_page_that_is_too_large_is_read_in_smaller_ones() {
        let mut newest = Newest::new(None);
        let mut window = newest.next().expect("begins");
        while window.size > 1 {
            newest.too_large(window);
            let smaller = newest.next().expect("goes on");
            assert!(smaller.size < window.size && smaller.from == window.from);
            window = smaller;
        }
        newest.too_large(window);
        let behind = newest.next().expect("goes on");
        assert_eq!(behind.from, 1, "one row is passed over");
        let mut pass = Pass::new(10);
        for _ in 0..10 {
            let window = pass.next().expect("goes on");
            pass.too_large(window);
        }
        assert!(pass.next().is_some_and(|window| window.size == 1));
    }

    proptest! {
        #[test]
        fn the_end_is_found_whatever_was_known(
            rows in 0usize..200_000, ended_at in proptest::option::of(0usize..200_000), says in any::<bool>(),
        ) {
            let (windows, newest) = reads(rows, ended_at, says);
            prop_assert_eq!(newest.end(), rows);
            let last = windows.last().expect("reads");
            prop_assert!(last.from + last.size >= rows);
            prop_assert_eq!(newest.is_whole(), last.from == 0);
        }

        #[test]
        fn a_pass_reads_every_row_though_rows_vanish(
            rows in 0usize..30_000, vanish in proptest::collection::vec(0usize..3_000, 0..8), large in any::<bool>(),
        ) {
            // Rows by their numbers; some of the oldest vanish between two pages.
            let mut list: Vec<usize> = (0..rows).collect();
            let (mut seen, mut vanish) = (vec![false; rows], vanish.into_iter());
            let mut pass = Pass::new(rows);
            let mut gone = 0;
            while let Some(window) = pass.next() {
                if large && window.size > 500 {
                    pass.too_large(window);
                    continue;
                }
                let end = (window.from + window.size).min(list.len());
                for row in &list[window.from.min(end)..end] {
                    seen[*row] = true;
                }
                pass.read(window);
                let less = vanish.next().unwrap_or(0).min(list.len());
                list.drain(..less);
                gone += less;
            }
            prop_assert!(seen[gone.min(rows)..].iter().all(|seen| *seen));
        }
    }
}
