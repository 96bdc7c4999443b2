//! `registry export`: the whole registry as lines, as it was at one moment, in constant memory.

use std::io::Write;

use super::book::Book;
use super::line::Line;

/// How many batches are in memory at once.
const AT_ONCE: usize = 1_000;

/// Writes the head line, and a line for each batch; returns how many batches.
pub(super) async fn export(book: &mut dyn Book, out: &mut dyn Write) -> Result<u64, String> {
    let head = book.head().await?;
    write(out, &head)?;
    let (mut written, mut last) = (0, 0);
    loop {
        let page = book.after(last, AT_ONCE).await?;
        for record in &page {
            write(out, &Line::of(record))?;
            written += 1;
        }
        match page.last() {
            Some(record) if page.len() == AT_ONCE => last = record.id(),
            _ => break,
        }
    }
    out.flush().map_err(cannot)?;
    Ok(written)
}

fn write(out: &mut dyn Write, line: &impl serde::Serialize) -> Result<(), String> {
    serde_json::to_writer(&mut *out, line).map_err(|error| cannot(error.into()))?;
    out.write_all(b"\n").map_err(cannot)
}

fn cannot(error: std::io::Error) -> String {
    format!("the lines can't be written: {error}")
}
