//! The log's way out, and readers that stall.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use testkit::*;

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let folder = plain_folder("");
    let mut child = Child(
        Command::new(binary())
            .arg("serve")
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts"),
    );
    // Read as far as the addresses, and never again.
    let mut log = BufReader::new(child.0.stderr.take().expect("is piped"));
    let (address, admin_address) = loop {
        let mut line = String::new();
        assert!(
            log.read_line(&mut line).expect("is text") > 0,
            "no line with the addresses"
        );
        if let Some(found) = addresses(&line) {
            break found;
        }
    };
    let dropped = || {
        let text = admin(admin_address, "/metrics").text();
        let value = text.lines().find_map(|line| {
            line.strip_prefix("livy_gateway_log_records_dropped_total{sink=\"stderr\"} ")
        });
        value
            .and_then(|value| value.parse::<u64>().ok())
            .expect("the counter is there from the beginning")
    };
    assert_eq!(dropped(), 0);
    let mut stream = TcpStream::connect(address).expect("listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("is a socket");
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(300));
    let mut asked = 0;
    while dropped() == 0 {
        assert!(asked < 100_000, "where do the lines go?");
        for _ in 0..2_000 {
            stream.write_all(request.as_bytes()).expect("is sent");
            assert_eq!(read_reply(&mut stream).status, 404, "request {asked}");
            asked += 1;
        }
    }
    // It ends when it is told to, too.
    assert!(
        Command::new("kill")
            .arg(child.0.id().to_string())
            .status()
            .expect("kill runs")
            .success()
    );
    assert_eq!(child.ended(), Some(0));
}

#[test]
fn a_reason_to_fail_that_nobody_reads_delays_no_end() {
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    // As much as a pipe holds.
    writer.write_all(&[b'x'; 1 << 16]).expect("there is room");
    let mut command = Command::new(binary());
    command
        .args(["serve", "-c", "/nowhere/routes.yaml"])
        .stderr(writer);
    assert_eq!(Child(command.spawn().expect("starts")).ended(), Some(1));
}

#[test]
fn the_reason_to_fail_is_the_last_line() {
    let folder = plain_folder("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("is bound").to_string();
    let path = folder.path().join("routes.yaml");
    let yaml =
        std::fs::read_to_string(&path)
            .expect("is there")
            .replacen("127.0.0.1:0", &address, 1);
    std::fs::write(&path, yaml).expect("is writable");
    let (status, _, told) = run(&["serve"], folder.path());
    assert_eq!(status, 1);
    assert!(
        told.lines()
            .last()
            .is_some_and(|line| line.starts_with("server.listen: can't bind")),
        "{told}"
    );
}

struct Child(std::process::Child);

impl Child {
    fn ended(&mut self) -> Option<i32> {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("is a child") {
                return status.code();
            }
            assert!(std::time::Instant::now() < until, "the process did not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
