//! Which addresses webhooks may reach. Whoever can make a webhook could otherwise have Mothball call what only its own
//! machine or network can: the store, Docker, a cloud's metadata service that gives out credentials.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the operator allows besides addresses of the public internet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Networks that may be reached though they are not public.
    pub allowed: Vec<IpNet>,
}

impl Reach {
    /// Whether an address may be reached.
    pub fn allows(&self, address: IpAddr) -> bool {
        let plain = plain(address);
        // What is allowed is allowed however it is written.
        self.allowed.iter().any(|net| net.contains(&address) || net.contains(&plain)) || is_public(plain)
    }
}

/// The IPv4 address that an IPv6 address stands for, where it does: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let of = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => of(high, low),
        // "IPv4-compatible", long given up, but still read by some.
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1) => of(high, low),
        _ => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Not in the special-purpose registry of RFC 6890 and its successors.
fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && (b == 18 || b == 19);
    let none = a == 0 || a >= 240 || shared || protocol || benchmarks;
    !(none
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast())
}

/// Global unicast (2000::/3) but for documentation and protocol assignments.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    let documentation = (a == 0x2001 && b == 0xdb8) || a == 0x3fff;
    let protocol = a == 0x2001 && b < 0x200;
    (a & 0xe000) == 0x2000 && !documentation && !protocol
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_reached_unless_the_operator_says_so() {
        let nothing = Reach::default();
        for public in ["8.8.8.8", "140.110.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(nothing.allows(public.parse().unwrap()), "{public}");
        }
        for closed in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "203.0.113.9",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!nothing.allows(closed.parse().unwrap()), "{closed}");
        }
        let lab = Reach { allowed: vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()] };
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("::1", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(lab.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
