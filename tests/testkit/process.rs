//! The gateway's program: where it is, one run of it, a process of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long anything may take that should take moments.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the program that is tested.
pub fn binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        // Cargo names it to the tests that it runs; one that is run by hand has it one folder up.
        let named = std::env::var_os("CARGO_BIN_EXE_livy-gateway").map(PathBuf::from);
        let path = named.unwrap_or_else(|| {
            let own = std::env::current_exe().expect("a test is a program");
            own.with_file_name("../livy-gateway")
        });
        path.to_str().expect("is UTF-8").to_owned()
    })
}

/// Runs the binary to its end: status, stdout, stderr.
pub fn run(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let out = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (
        out.status.code().unwrap_or(-1),
        text(out.stdout),
        text(out.stderr),
    )
}

/// A child process that ends with its owner, and the lines that it prints.
pub struct Process {
    child: Child,
    /// Lines that nobody waited for yet.
    pub lines: Mutex<Receiver<String>>,
    /// All lines so far.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(mut command: Command, from_stdout: bool) -> Process {
        let (out, err) = if from_stdout {
            (Stdio::piped(), Stdio::null())
        } else {
            (Stdio::null(), Stdio::piped())
        };
        let mut child = command
            .stdout(out)
            .stderr(err)
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let pipe: Box<dyn std::io::Read + Send> = if from_stdout {
            Box::new(child.stdout.take().expect("is piped"))
        } else {
            Box::new(child.stderr.take().expect("is piped"))
        };
        let (tell, lines) = channel();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                kept.lock().expect("no panic holds it").push(line.clone());
                let _ = tell.send(line);
            }
        });
        Process {
            child,
            lines: Mutex::new(lines),
            seen,
        }
    }

    /// Waits for a line that fits.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, fits: impl Fn(&str) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let lines = self.lines.lock().expect("no panic holds it");
        while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some(found) = fits(&line) {
                return found;
            }
        }
        panic!(
            "no line with {what}; there were:\n{}",
            self.seen.lock().expect("no panic holds it").join("\n")
        );
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, as `kill` takes it.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Tells whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_none()
    }

    /// Waits for the end, and returns the exit status.
    pub fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("is a child") {
                return status.code();
            }
            assert!(Instant::now() < until, "the process did not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
