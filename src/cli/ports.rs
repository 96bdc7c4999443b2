//! Who listens on a port of this machine, as far as this process may see it.
//!
//! A gateway that runs on the file that is checked has its ports, and keeps them: they are not
//! taken. Linux says which process a socket belongs to; what belongs to other users, and other
//! systems, keep that to themselves.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::config::addresses::overlap;

/// Who has a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A gateway that runs on this very file, on this address.
    OnThisFile(SocketAddr),
    /// A gateway that runs on another file.
    Gateway { process: u32, file: PathBuf },
    /// Something else.
    Other { process: u32, name: String },
    /// It can't be seen.
    Unknown,
}

/// Returns who listens on an address that could not be bound.
pub(super) fn holder(address: SocketAddr, file: &Path) -> Holder {
    let sockets = sockets(address);
    let Some((process, listens)) = processes().find_map(|process| {
        let socket = held(process, &sockets)?;
        Some((process, socket))
    }) else {
        return Holder::Unknown;
    };
    match gateways_file(process) {
        Some(its) if is_same(&its, file) => Holder::OnThisFile(listens),
        Some(its) => Holder::Gateway { process, file: its },
        None => Holder::Other {
            process,
            name: read(process, "comm").trim().to_owned(),
        },
    }
}

fn read(process: u32, what: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{what}")).unwrap_or_default()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some() && real(one) == real(other)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the sockets that listen where an address can't be bound: the number of each, and its
/// own address.
fn sockets(address: SocketAddr) -> Vec<(String, SocketAddr)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .filter_map(listening)
        .filter(|(_, own)| overlap(*own, address, true))
        .collect()
}

/// Reads a line of `/proc/net/tcp` about a socket that listens.
fn listening(line: &str) -> Option<(String, SocketAddr)> {
    const LISTENS: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    // Words of the machine's own byte order, each in the network's.
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_mut(4).enumerate() {
                four.copy_from_slice(&word(at * 8)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    (*state == LISTENS).then(|| ((*inode).to_owned(), SocketAddr::new(ip, port)))
}

/// Returns the address of that of some sockets which a process holds.
fn held(process: u32, sockets: &[(String, SocketAddr)]) -> Option<SocketAddr> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    descriptors.flatten().find_map(|one| {
        let leads = std::fs::read_link(one.path()).ok()?;
        let number = leads
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?;
        let its = sockets.iter().find(|(inode, _)| inode == number)?;
        Some(its.1)
    })
}

/// Returns the configuration of a process that is a gateway.
fn gateways_file(process: u32) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let its = std::fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let its = its.file_name()?.to_str()?;
    // A program that was replaced while it runs.
    if own.file_name()?.to_str()? != its.trim_end_matches(" (deleted)") {
        return None;
    }
    let command = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let words: Vec<OsString> = split(&command);
    if words.get(1)? != "serve" {
        return None;
    }
    let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let named = named(&words[2..]).or_else(|| {
        let from_environment = split(&environment).into_iter().find_map(|one| {
            let text = one.into_vec();
            let value = text.strip_prefix(b"LIVY_GATEWAY_CONFIG=")?;
            Some(PathBuf::from(OsString::from_vec(value.to_vec())))
        });
        from_environment.filter(|path| !path.as_os_str().is_empty())
    });
    let folder = std::fs::read_link(format!("/proc/{process}/cwd")).ok()?;
    Some(folder.join(named.unwrap_or_else(|| PathBuf::from("routes.yaml"))))
}

fn split(bytes: &[u8]) -> Vec<OsString> {
    let parts = bytes.split(|byte| *byte == 0).filter(|one| !one.is_empty());
    parts.map(|one| OsString::from_vec(one.to_vec())).collect()
}

/// Finds the file in the words of a command line: `-c FILE`, `-cFILE`, `--config FILE`,
/// `--config=FILE`.
fn named(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "-c" || text == "--config" {
            return words.next().map(PathBuf::from);
        }
        let rest = text
            .strip_prefix("--config=")
            .or_else(|| text.strip_prefix("-c"));
        if let Some(rest) = rest {
            return Some(PathBuf::from(rest.trim_start_matches('=')));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_read() {
        let line =
            "0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1";
        let loopback = "127.0.0.1:9090".parse().expect("an address");
        assert_eq!(listening(line), Some(("4711".to_owned(), loopback)));
        let line = "1: 00000000000000000000000001000000:2382 0:0 0A 0:0 0:0 0 0 0 12 1";
        let loopback = "[::1]:9090".parse().expect("an address");
        assert_eq!(listening(line), Some(("12".to_owned(), loopback)));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening("sl local_address rem_address st"), None);
    }

    #[test]
    fn a_socket_of_another_program_is_seen() {
        let own = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = own.local_addr().expect("is bound");
        if cfg!(target_os = "linux") {
            let process = std::process::id();
            let held = holder(address, Path::new("routes.yaml"));
            assert!(
                matches!(held, Holder::Other { process: its, .. } if its == process),
                "{held:?}"
            );
        }
    }

    #[test]
    fn the_file_of_a_command_line_is_found() {
        let named = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            super::named(&words).map(|path| path.display().to_string())
        };
        for words in [
            &["-c", "a"][..],
            &["-ca"],
            &["--config", "a"],
            &["--config=a"],
        ] {
            assert_eq!(named(words).as_deref(), Some("a"), "{words:?}");
        }
        assert_eq!(named(&[]), None);
    }
}
