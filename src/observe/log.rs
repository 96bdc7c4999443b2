//! The log's way out: lines wait in memory, and one thread writes them to stderr.
//!
//! stderr is often a pipe, and whoever writes to a pipe that nobody reads waits. So no request
//! writes by itself: it leaves its line here and goes on. What finds no room, or can't be written,
//! is dropped and counted in [`DROPPED`]; nothing else is lost without a word.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, Opts};
use tracing_subscriber::fmt::MakeWriter;

/// How many bytes may wait: some 8,000 lines of the access log, a second or two of a busy gateway,
/// so that a reader may pause. As many again may be in the writer's hands.
const ROOM: usize = 4 << 20;

/// How long the end of the process waits for the last lines. A reader that is there takes them in
/// moments.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How long to wait when stderr is a full pipe that its other owner made non-blocking.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Lines that were dropped; of the process, as stderr is.
pub static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let opts = Opts::new(
        "livy_gateway_log_records_dropped_total",
        "Log records that could not be written in time.",
    );
    IntCounter::with_opts(opts.const_label("sink", "stderr")).expect("name and label are constants")
});

/// A log that is being written. Dropping it waits for the last lines, but not for ever.
#[derive(Debug)]
pub struct Log(Arc<Queue>);

/// Where lines are left; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Something waits.
    filled: Condvar,
    /// Nothing waits any more, and nothing is being written.
    drained: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    records: u64,
    writing: bool,
}

impl Log {
    /// Begins to write to stderr.
    ///
    /// # Errors
    /// There is no stderr, or no thread to be had.
    pub fn to_stderr() -> std::io::Result<Log> {
        // A descriptor of its own: who holds the standard library's would make everybody else wait
        // who has something to say there.
        let stderr = std::fs::File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
        Log::to(stderr, DROPPED.clone())
    }

    fn to(out: impl Write + Send + 'static, dropped: IntCounter) -> std::io::Result<Log> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            dropped,
        });
        let of_writer = queue.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || of_writer.write_all_day(out))?;
        Ok(Log(queue))
    }

    /// Returns where to leave lines.
    pub fn lines(&self) -> Lines {
        Lines(self.0.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let state = self.0.lock();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        // Whether it was in time or not, the process ends.
        drop(self.0.drained.wait_timeout_while(state, LAST_LINES, busy));
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > ROOM {
            self.dropped.inc();
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.records += 1;
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn write_all_day(&self, mut out: impl Write) {
        loop {
            let (batch, records) = self.take();
            if write_whole(&mut out, &batch).is_err() {
                self.dropped.inc_by(records);
            }
            self.lock().writing = false;
        }
    }

    /// Waits for lines and takes all there are.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            self.drained.notify_all();
            let empty = |state: &mut State| state.waiting.is_empty();
            state = self
                .filled
                .wait_while(state, empty)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        (
            std::mem::take(&mut state.waiting),
            std::mem::take(&mut state.records),
        )
    }
}

fn write_whole(out: &mut impl Write, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Lines {
    /// Leaves a text that is no record, such as why the process ends.
    pub fn say(&self, text: &str) {
        self.0.leave(format!("{text}\n").as_bytes());
    }
}

/// One record: the subscriber writes each in one piece.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Makes panics lines of the log, with the place and, where `RUST_BACKTRACE` asks for one, the way
/// there.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without words");
        let location = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
            .then(|| backtrace.to_string());
        let thread = std::thread::current();
        tracing::error!(
            location,
            thread = thread.name(),
            backtrace,
            "panic: {message}"
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Instant;

    use super::*;

    /// A reader that takes one write at a time, when the test does.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Receiver<Vec<u8>>, IntCounter) {
        let (pipe, reader) = sync_channel(0);
        let dropped = IntCounter::new("dropped", "dropped").expect("a name");
        (
            Log::to(Pipe(pipe), dropped.clone()).expect("starts"),
            reader,
            dropped,
        )
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < end, "it never held: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (log, reader, dropped) = log();
        let lines = log.lines();
        (&lines).write_all(b"first\n").expect("never fails");
        until("the writer is stuck in it", || log.0.lock().writing);
        let line = vec![b'x'; ROOM / 4];
        for _ in 0..6 {
            (&lines).write_all(&line).expect("never fails");
        }
        assert_eq!(dropped.get(), 2);
        assert_eq!(reader.recv().expect("is written"), b"first\n");
        assert_eq!(reader.recv().expect("is written").len(), ROOM);
        (&lines).write_all(b"last\n").expect("never fails");
        assert_eq!(reader.recv().expect("there is room again"), b"last\n");
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn what_can_not_be_written_is_counted() {
        let (log, reader, dropped) = log();
        drop(reader);
        (&log.lines())
            .write_all(b"to nobody\n")
            .expect("never fails");
        until("it is counted", || dropped.get() == 1);
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let (log, reader, _) = log();
        (&log.lines()).write_all(b"last\n").expect("never fails");
        let reading = std::thread::spawn(move || reader.recv().map(|line| (line, reader)));
        drop(log);
        let (line, reader) = reading.join().expect("no panic").expect("was written");
        assert_eq!(line, b"last\n");
        drop(reader);
        let (log, _stuck, _) = self::log();
        (&log.lines()).write_all(b"last\n").expect("never fails");
        let begun = Instant::now();
        drop(log);
        assert!(begun.elapsed() < 2 * LAST_LINES, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let (log, reader, _) = log();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(log.lines())
            .finish();
        let kept = std::panic::take_hook();
        take_panics();
        let caught = tracing::subscriber::with_default(subscriber, || {
            std::panic::catch_unwind(|| panic!("on purpose, {}", 1))
        });
        std::panic::set_hook(kept);
        assert!(caught.is_err());
        let line: serde_json::Value =
            serde_json::from_slice(&reader.recv().expect("a line")).expect("JSON");
        assert_eq!(
            (line["level"].as_str(), line["message"].as_str()),
            (Some("ERROR"), Some("panic: on purpose, 1"))
        );
        assert!(
            line["location"]
                .as_str()
                .is_some_and(|place| place.contains("log.rs:")),
            "{line}"
        );
    }
}
