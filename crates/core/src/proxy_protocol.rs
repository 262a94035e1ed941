//! The PROXY protocol: what a connection says of itself before its first byte, so that addresses
//! survive a proxy that ends TCP. Format: <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// Where the connection came from and where it went; none where the sender speaks for itself,
    /// and the connection's own addresses hold.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// How many bytes it takes.
    pub length: usize,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// Too few to tell, or the header has not ended.
    NeedMore,
    /// Something else: the first bytes cannot begin a header.
    NotProxy,
    /// They begin like a header and are none.
    Malformed,
    /// A header.
    Done(Header),
}

const V1_START: &[u8] = b"PROXY ";
/// The longest line, with its end.
const V1_MOST: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to and with the length of the rest.
const V2_FIXED: usize = 16;
/// The longest rest of a binary header: far more than addresses and what is usually added.
const V2_MOST: usize = 4096;

/// Looks for a header at the beginning of these bytes.
pub fn parse(bytes: &[u8]) -> Parse {
    let begins = |start: &[u8]| {
        let common = start.len().min(bytes.len());
        bytes[..common] == start[..common]
    };
    if begins(V2_START) {
        binary(bytes)
    } else if begins(V1_START) {
        text(bytes)
    } else {
        Parse::NotProxy
    }
}

fn text(bytes: &[u8]) -> Parse {
    let seen = &bytes[..bytes.len().min(V1_MOST)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match seen.len() {
            V1_MOST => Parse::Malformed,
            _ => Parse::NeedMore,
        };
    };
    let Ok(line) = std::str::from_utf8(&seen[..end]) else {
        return Parse::Malformed;
    };
    let done = |addresses| {
        Parse::Done(Header {
            version: Version::V1,
            addresses,
            length: end + 2,
        })
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    // Whatever follows is to be passed over.
    if family == Some("UNKNOWN") {
        return done(None);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Parse::Malformed;
    };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = match family {
            Some("TCP4") => ip.parse::<Ipv4Addr>().ok()?.into(),
            Some("TCP6") => ip.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        Some(SocketAddr::new(ip, port.parse().ok().filter(|_| digits)?))
    };
    let pair = address(source, source_port).zip(address(destination, destination_port));
    pair.map_or(Parse::Malformed, |pair| done(Some(pair)))
}

fn binary(bytes: &[u8]) -> Parse {
    let Some(fixed) = bytes.get(..V2_FIXED) else {
        return Parse::NeedMore;
    };
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 || rest > V2_MOST {
        return Parse::Malformed;
    }
    let length = V2_FIXED + rest;
    let Some(body) = bytes.get(V2_FIXED..length) else {
        return Parse::NeedMore;
    };
    let addresses = match (fixed[12] & 0x0f, fixed[13]) {
        // The sender itself, or a family that means nothing here.
        (0, _) | (1, 0) => None,
        (1, 0x11) => match body {
            [s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1, ..] => {
                let at = |ip: [u8; 4], port| SocketAddr::from((ip, u16::from_be_bytes(port)));
                let source = at([*s0, *s1, *s2, *s3], [*p0, *p1]);
                Some((source, at([*d0, *d1, *d2, *d3], [*q0, *q1])))
            }
            _ => return Parse::Malformed,
        },
        (1, 0x21) => match (six(body, 0), body.get(32..36)) {
            (Some((source, destination)), Some([p0, p1, q0, q1])) => {
                let at = |ip: Ipv6Addr, port| SocketAddr::from((ip, u16::from_be_bytes(port)));
                Some((at(source, [*p0, *p1]), at(destination, [*q0, *q1])))
            }
            _ => return Parse::Malformed,
        },
        _ => return Parse::Malformed,
    };
    Parse::Done(Header {
        version: Version::V2,
        addresses,
        length,
    })
}

/// Two IPv6 addresses, one after the other.
fn six(body: &[u8], from: usize) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let at = |from: usize| {
        let octets: [u8; 16] = body.get(from..from + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets))
    };
    at(from).zip(at(from + 16))
}

/// The header of a connection that came from `source` and went to `destination`. Where their
/// families differ, the IPv4 address is written as one of IPv6.
pub fn encode(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.port(), destination.port());
    let pair = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ok((source, destination)),
        (source, destination) => Err((mapped(source), mapped(destination))),
    };
    match (version, pair) {
        (Version::V1, Ok((source, destination))) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n").into_bytes()
        }
        (Version::V1, Err((source, destination))) => {
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n").into_bytes()
        }
        (Version::V2, pair) => {
            let (family, addresses) = match pair {
                Ok((source, destination)) => {
                    (0x11, [source.octets(), destination.octets()].concat())
                }
                Err((source, destination)) => {
                    (0x21, [source.octets(), destination.octets()].concat())
                }
            };
            let mut out = V2_START.to_vec();
            out.extend([0x21, family]);
            out.extend((addresses.len() as u16 + 4).to_be_bytes());
            out.extend(addresses);
            out.extend(from.to_be_bytes());
            out.extend(to.to_be_bytes());
            out
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_written_is_read() {
        let pairs = [
            ("192.0.2.1:1234", "198.51.100.2:80"),
            ("[2001:db8::1]:1234", "[2001:db8::2]:443"),
            ("192.0.2.1:1234", "[2001:db8::2]:443"),
        ];
        for version in [Version::V1, Version::V2] {
            for (source, destination) in pairs {
                let (source, destination) = (at(source), at(destination));
                let header = encode(version, source, destination);
                for length in 0..header.len() {
                    assert_eq!(parse(&header[..length]), Parse::NeedMore, "{length}");
                }
                let mut bytes = header.clone();
                bytes.extend(b"GET / HTTP/1.1\r\n");
                let Parse::Done(found) = parse(&bytes) else {
                    panic!("{:?} of {header:?}", parse(&bytes));
                };
                assert_eq!((found.version, found.length), (version, header.len()));
                let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
                let (from, to) = found.addresses.expect("addresses");
                assert_eq!(canonical(from), canonical(source));
                assert_eq!(canonical(to), canonical(destination));
            }
        }
    }

    #[test]
    fn nothing_is_taken_that_is_not_there() {
        let headers = [Version::V1, Version::V2]
            .map(|version| encode(version, at("192.0.2.1:1"), at("[2001:db8::2]:443")));
        let mut seed = 7_u64;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = headers[draw(2)].clone();
            for _ in 0..=draw(3) {
                let place = draw(bytes.len());
                bytes[place] = draw(256) as u8;
            }
            bytes.truncate(draw(bytes.len()) + 1);
            if let Parse::Done(header) = parse(&bytes) {
                assert!(header.length <= bytes.len(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn the_published_forms() {
        let v1 = encode(Version::V1, at("192.0.2.1:56324"), at("192.0.2.2:443"));
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
        let check = |bytes: &[u8], expect: Parse| assert_eq!(parse(bytes), expect, "{bytes:?}");
        let own = |version, length| {
            Parse::Done(Header {
                version,
                addresses: None,
                length,
            })
        };
        check(b"PROXY UNKNOWN\r\n", own(Version::V1, 15));
        check(b"PROXY UNKNOWN a b c\r\nx", own(Version::V1, 21));
        check(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", own(Version::V2, 16));
        check(b"GET / HTTP/1.1\r\n", Parse::NotProxy);
        check(b"", Parse::NeedMore);
        check(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n", Parse::Malformed);
        check(b"PROXY TCP4 ::1 ::1 1 2\r\n", Parse::Malformed);
        check(b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Parse::Malformed);
        check(
            &[&b"PROXY TCP4 "[..], &[b' '; 120]].concat(),
            Parse::Malformed,
        );
        check(b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c", Parse::Malformed);
        check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01x", Parse::Malformed);
        check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", Parse::Malformed);
    }
}
