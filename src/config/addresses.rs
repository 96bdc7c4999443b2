//! Addresses that can't be listened on at the same time.

use std::net::SocketAddr;

/// Tells whether two addresses overlap: nobody can listen on the second while somebody listens on
/// the first. An IPv6 wildcard takes IPv4 along on most systems; where that is to be told,
/// `across_families` says so.
pub fn overlap(one: SocketAddr, other: SocketAddr, across_families: bool) -> bool {
    let is_wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_same_family = one.is_ipv4() == other.is_ipv4();
    // Port 0 is a free one each time.
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || (is_wildcard && (is_same_family || across_families)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_overlaps_with_all_of_its_family() {
        let overlap = |one: &str, other: &str, across| {
            let parse = |text: &str| text.parse().expect("is an address");
            let there = overlap(parse(one), parse(other), across);
            assert_eq!(there, super::overlap(parse(other), parse(one), across));
            there
        };
        assert!(overlap("127.0.0.1:1", "127.0.0.1:1", false));
        assert!(overlap("127.0.0.1:1", "0.0.0.0:1", false));
        assert!(overlap("[::1]:1", "[::]:1", false));
        assert!(overlap("127.0.0.1:1", "[::]:1", true));
        assert!(!overlap("127.0.0.1:1", "[::]:1", false));
        assert!(!overlap("127.0.0.1:1", "127.0.0.1:2", true));
        assert!(!overlap("127.0.0.1:1", "127.0.0.2:1", true));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0", true));
    }
}
