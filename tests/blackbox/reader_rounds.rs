//! The reader of a cluster, by what it costs the cluster: polls by list, long lists in pages.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use testkit::*;

/// A gateway without logins or TLS in front of one cluster.
struct House {
    address: SocketAddr,
    _process: Process,
    _folder: tempfile::TempDir,
}

fn house(cluster: &LongList, keys: &str) -> House {
    house_of("livy", cluster, keys)
}

fn house_of(flavor: &str, cluster: &LongList, keys: &str) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let url = cluster.address;
    let yaml = format!(
        "server: {{listen: \"127.0.0.1:0\", plaintext: true}}\nadmin: {{listen: \"127.0.0.1:0\"}}\nregistry: {{memory: {{}}}}\nvisibility: all\n\
         authenticators: {{open: {{anonymous: {{user: guest}}}}}}\nclusters: {{far: {{flavor: {flavor}, url: \"http://{url}\", {keys}}}}}\n\
         routes: [{{name: all, targets: [{{cluster: far}}]}}]\n"
    );
    std::fs::write(folder.path().join("routes.yaml"), yaml).expect("is writable");
    let (process, address) = serve(folder.path());
    House {
        address,
        _process: process,
        _folder: folder,
    }
}

impl House {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("is a socket");
        stream
    }

    /// Asks on a connection that is kept.
    fn get_on(&self, stream: &mut TcpStream, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("is sent");
        read_reply(stream)
    }

    fn get(&self, path: &str) -> Reply {
        self.get_on(&mut self.connect(), path)
    }

    fn total(&self) -> usize {
        let total = self.get("/batches?size=1").json()["total"].as_u64();
        usize::try_from(total.expect("a total")).expect("fits")
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + 2 * PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "it never held: {what}");
            std::thread::yield_now();
        }
    }

    /// Polls batches on some connections for a while; returns how many polls were answered.
    fn storm(&self, ids: usize, pollers: usize, time: Duration) -> usize {
        let until = Instant::now() + time;
        std::thread::scope(|scope| {
            let polls = |poller: usize| {
                let (mut stream, mut answered) = (self.connect(), 0);
                while Instant::now() < until {
                    let id = 1 + (poller * 131 + answered * 37) % ids;
                    let reply = self.get_on(&mut stream, &format!("/batches/{id}/state"));
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    assert_eq!(reply.json()["state"], "running");
                    assert_eq!(reply.header("x-livy-gateway-stale"), None);
                    answered += 1;
                }
                answered
            };
            let pollers: Vec<_> = (0..pollers)
                .map(|one| scope.spawn(move || polls(one)))
                .collect();
            pollers
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .sum()
        })
    }
}

#[test]
fn a_storm_of_polls_costs_a_list_a_second() {
    let cluster = LongList::start(1_000, 0);
    let house = house(&cluster, "");
    assert_eq!(house.total(), 1_000);
    cluster.lists();
    cluster.alone();
    let seconds = 5;
    let answered = house.storm(1_000, 16, Duration::from_secs(seconds));
    let (lists, alone) = (cluster.lists().len(), cluster.alone());
    let most = usize::try_from(seconds).expect("is small") + 2;
    assert!(answered > 500, "{answered} polls");
    assert!(lists <= most, "{lists} lists for {answered} polls");
    assert!(alone <= 60, "{alone} single reads beside {lists} lists");
    // Somebody who asks for one batch now and then is no storm.
    house.wait_until("one poll goes alone again", || {
        cluster.lists();
        cluster.alone();
        house.get("/batches/7/state");
        (cluster.lists().len(), cluster.alone()) == (0, 1)
    });
}

#[test]
fn a_list_that_shows_no_batch_ends_none() {
    let cluster = LongList::start(200, 0);
    let house = house(&cluster, "");
    assert_eq!(house.total(), 200);
    house.storm(200, 8, Duration::from_secs(2));
    cluster.set_state("success");
    house.wait_until("the end is seen", || {
        house.get("/batches/3/state").json()["state"] == "success"
    });
}

#[test]
fn a_cluster_that_hangs_costs_each_its_own_deadline() {
    let cluster = LongList::start(300, 0);
    let house = house(&cluster, "timeouts: {response: 2s}, health: {interval: 1h}");
    assert_eq!(house.total(), 300);
    house.storm(300, 8, Duration::from_secs(2));
    cluster.hang(true);
    std::thread::scope(|scope| {
        let polls: Vec<_> = (0..100)
            .map(|at| {
                let house = &house;
                scope.spawn(move || {
                    let mut slowest = Duration::ZERO;
                    for turn in 0..3 {
                        let began = Instant::now();
                        let id = 1 + (at * 3 + turn) % 300;
                        let reply = house.get(&format!("/batches/{id}/state"));
                        assert_eq!(reply.json()["state"], "running", "{}", reply.text());
                        slowest = slowest.max(began.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        for poll in polls {
            let slowest = poll.join().expect("no panic");
            assert!(slowest < Duration::from_millis(3_500), "{slowest:?}");
        }
    });
}

#[test]
fn a_long_list_is_adopted_whole_in_pages() {
    let batches = 12_345;
    let cluster = LongList::start(batches, 0);
    let house = house(&cluster, "");
    let first = house.get("/batches?from=0&size=10");
    assert_eq!(first.status, 200);
    let lists = cluster.lists();
    assert!(lists.len() <= 3, "{lists:?}");
    house.wait_until("all are adopted", || house.total() == batches);
    // The last page of the pass; the next one is a minute away.
    house.wait_until("all was read", || {
        let lists = cluster.lists();
        assert!(lists.iter().all(|(_, size)| *size <= 2_000), "{lists:?}");
        lists.contains(&(0, batches % 2_000))
    });
    // The newest are there with the next list, and it reads nothing else.
    cluster.add();
    house.wait_until("the new one is there", || house.total() == batches + 1);
    cluster.lists();
    for _ in 0..50 {
        house.get("/batches?from=5000&size=10");
    }
    let lists = cluster.lists();
    assert!(lists.iter().all(|(from, _)| *from > 12_000), "{lists:?}");
    let page = house.get("/batches?from=5000&size=10").json();
    let shown = page["sessions"].as_array().map(Vec::len);
    assert_eq!(
        (shown, &page["total"]),
        (Some(10), &Value::from(batches + 1))
    );
}

#[test]
fn rows_that_fill_an_answer_are_read_in_smaller_pages() {
    // 100 rows of 300 kB: no more than 50 of them fit.
    let cluster = LongList::start(100, 300_000);
    let house = house(&cluster, "");
    house.wait_until("all are adopted", || house.total() == 100);
}

#[test]
fn a_window_of_a_long_log_is_not_the_whole_log() {
    let lines = 250_000;
    let cluster = LongList::start(1, 0);
    cluster.set_lines(lines);
    let house = house_of("kyuubi", &cluster, "");
    assert_eq!(house.total(), 1);
    let read = |query: &str| {
        let log = house.get(&format!("/batches/1/log{query}")).json();
        let text: Vec<String> = serde_json::from_value(log["log"].clone()).expect("lines");
        (log["from"].clone(), log["total"].clone(), text)
    };
    let total = lines + 2;
    let (from, said, tail) = read("?size=3");
    assert_eq!((from, said), (Value::from(total - 3), Value::from(total)));
    assert_eq!(tail, ["line 249998", "line 249999", "\nstderr: "]);
    let first = cluster.lines_read();
    assert!(first < 15_000, "{first} lines to find the end of {lines}");
    // From then on the end is known, and what is new is read on.
    cluster.set_lines(lines + 7);
    for (query, begins, length) in [
        ("", "line 249908", 100),
        ("?from=0&size=2", "stdout: ", 2),
        ("?from=1000&size=50", "line 999", 50),
        ("?from=200000&size=5000", "line 199999", 5_000),
    ] {
        let (_, said, text) = read(query);
        assert_eq!(said, Value::from(total + 7), "{query}");
        assert_eq!((text[0].as_str(), text.len()), (begins, length), "{query}");
        let read = cluster.lines_read();
        assert!(read <= length + 200, "{query}: {read} lines for {length}");
    }
    let (_, _, all) = read("?size=-1");
    assert_eq!((all.len(), all[5_000].as_str()), (total + 7, "line 4999"));
    // It may become shorter, when an instance goes away.
    cluster.set_lines(12);
    let (_, said, text) = read("?from=0");
    assert_eq!((said, text.len()), (Value::from(14), 14));
}

#[test]
fn a_kyuubi_with_many_batches_is_read_in_pages_too() {
    let cluster = LongList::start(7_003, 0);
    let house = house_of("kyuubi", &cluster, "");
    house.wait_until("all are adopted", || house.total() == 7_003);
    cluster.add();
    house.wait_until("the new one is there", || house.total() == 7_004);
    let lists = cluster.lists();
    assert!(lists.iter().all(|(_, size)| *size <= 2_000), "{lists:?}");
}
