//! A builder for rules: each call adds a test or an action, in the order in which they run.
//!
//! Tests that look into a header first make sure that it is there, as `nft` does, so a rule on a
//! port never reads the middle of another protocol's header.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::expr::{Expr, NatKind, PayloadBase, REG_1, REG_2, Verdict, ct, meta};
use super::set::{AnonymousSet, Elements, key_type};

const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
/// The kernel's limit for what a rule may carry for its user.
const MAX_COMMENT: usize = 250;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl L4 {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The ports that a test names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Exactly one.
    One(u16),
    /// From the first to the last, both included.
    Range(u16, u16),
    /// Any of these.
    AnyOf(Vec<u16>),
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self::One(port)
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self::Range(*range.start(), *range.end())
    }
}

impl From<Vec<u16>> for Ports {
    fn from(mut ports: Vec<u16>) -> Self {
        ports.sort_unstable();
        ports.dedup();
        match ports.as_slice() {
            [port] => Self::One(*port),
            _ => Self::AnyOf(ports),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(f, "{port}"),
            Self::Range(from, to) => write!(f, "{from}-{to}"),
            Self::AnyOf(ports) => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                write!(f, "{{ {} }}", ports.join(", "))
            }
        }
    }
}

/// Which way of a connection a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// As the connection's first packet did.
    Original,
    /// The other way.
    Reply,
}

/// States of a connection, to be added up for [`Rule::ct_state`].
pub mod ct_state {
    /// The packet fits no known connection and cannot start one.
    pub const INVALID: u32 = 1;
    /// The connection has seen packets both ways.
    pub const ESTABLISHED: u32 = 2;
    /// The packet belongs to a connection that another one announced.
    pub const RELATED: u32 = 4;
    /// The packet starts a connection.
    pub const NEW: u32 = 8;
}

/// A rule under construction. Its `Display` is the rule in the syntax of `nft`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub(super) exprs: Vec<Expr>,
    pub(super) comment: Option<String>,
    text: Vec<String>,
}

impl Rule {
    /// A rule that matches every packet and does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The packet came in by this interface.
    #[must_use]
    pub fn iif(self, name: &str) -> Self {
        self.interface(meta::IIFNAME, "iifname", name, true)
    }

    /// The packet did not come in by this interface.
    #[must_use]
    pub fn not_iif(self, name: &str) -> Self {
        self.interface(meta::IIFNAME, "iifname", name, false)
    }

    /// The packet leaves by this interface.
    #[must_use]
    pub fn oif(self, name: &str) -> Self {
        self.interface(meta::OIFNAME, "oifname", name, true)
    }

    /// The packet does not leave by this interface.
    #[must_use]
    pub fn not_oif(self, name: &str) -> Self {
        self.interface(meta::OIFNAME, "oifname", name, false)
    }

    /// The source address is in the network.
    #[must_use]
    pub fn saddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Source, net.into(), true)
    }

    /// The source address is outside the network (of the same IP version).
    #[must_use]
    pub fn not_saddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Source, net.into(), false)
    }

    /// The destination address is in the network.
    #[must_use]
    pub fn daddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Destination, net.into(), true)
    }

    /// The destination address is outside the network (of the same IP version).
    #[must_use]
    pub fn not_daddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Destination, net.into(), false)
    }

    /// The packet is IPv4.
    #[must_use]
    pub fn ipv4(mut self) -> Self {
        self.require_family(NFPROTO_IPV4);
        self.say("meta nfproto ipv4")
    }

    /// The packet is IPv6.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.require_family(NFPROTO_IPV6);
        self.say("meta nfproto ipv6")
    }

    /// The packet is of this protocol.
    #[must_use]
    pub fn l4proto(mut self, protocol: L4) -> Self {
        self.require_protocol(protocol);
        self.say(format!("meta l4proto {}", protocol.name()))
    }

    /// The source port is one of these.
    #[must_use]
    pub fn sport(self, protocol: L4, ports: impl Into<Ports>) -> Self {
        self.port(protocol, Side::Source, ports.into(), true)
    }

    /// The destination port is one of these.
    #[must_use]
    pub fn dport(self, protocol: L4, ports: impl Into<Ports>) -> Self {
        self.port(protocol, Side::Destination, ports.into(), true)
    }

    /// The packet is of this protocol and its destination port is none of these.
    #[must_use]
    pub fn not_dport(self, protocol: L4, ports: impl Into<Ports>) -> Self {
        self.port(protocol, Side::Destination, ports.into(), false)
    }

    /// The packet's mark has this value.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.number(Expr::Meta { key: meta::MARK }, "meta mark", mark, true)
    }

    /// The packet's mark has another value.
    #[must_use]
    pub fn not_mark(self, mark: u32) -> Self {
        self.number(Expr::Meta { key: meta::MARK }, "meta mark", mark, false)
    }

    /// The packet's socket belongs to this user (as the network namespace's owner numbers users).
    #[must_use]
    pub fn skuid(self, uid: u32) -> Self {
        self.number(Expr::Meta { key: meta::SKUID }, "meta skuid", uid, true)
    }

    /// The packet's socket belongs to another user.
    #[must_use]
    pub fn not_skuid(self, uid: u32) -> Self {
        self.number(Expr::Meta { key: meta::SKUID }, "meta skuid", uid, false)
    }

    /// The packet's socket belongs to this group.
    #[must_use]
    pub fn skgid(self, gid: u32) -> Self {
        self.number(Expr::Meta { key: meta::SKGID }, "meta skgid", gid, true)
    }

    /// The packet's socket belongs to another group.
    #[must_use]
    pub fn not_skgid(self, gid: u32) -> Self {
        self.number(Expr::Meta { key: meta::SKGID }, "meta skgid", gid, false)
    }

    /// The packet's connection is in one of these [states](ct_state).
    #[must_use]
    pub fn ct_state(self, states: u32) -> Self {
        self.ct_bits(ct::STATE, "ct state", states)
    }

    /// The packet's connection had its destination translated.
    #[must_use]
    pub fn ct_status_dnat(self) -> Self {
        const IPS_DST_NAT: u32 = 1 << 5;
        self.ct_bits(ct::STATUS, "ct status", IPS_DST_NAT)
    }

    /// The packet goes this way of its connection.
    #[must_use]
    pub fn ct_direction(mut self, direction: Direction) -> Self {
        let (value, name) = match direction {
            Direction::Original => (0, "original"),
            Direction::Reply => (1, "reply"),
        };
        self.exprs.push(Expr::Ct { key: ct::DIRECTION });
        self.exprs.push(Expr::Compare {
            equal: true,
            value: vec![value],
        });
        self.say(format!("ct direction {name}"))
    }

    /// The packet's connection carries this mark.
    #[must_use]
    pub fn ct_mark(self, mark: u32) -> Self {
        self.number(Expr::Ct { key: ct::MARK }, "ct mark", mark, true)
    }

    /// One in `n` packets, by chance. A ladder of such rules with n, n-1, …, 1 spreads evenly.
    #[must_use]
    pub fn random_one_in(self, n: u32) -> Self {
        let n = n.max(1);
        self.number(
            Expr::Random { modulus: n },
            &format!("numgen random mod {n}"),
            0,
            true,
        )
    }

    /// Picks one of the verdicts by chance, evenly.
    #[must_use]
    pub fn random_of(mut self, verdicts: Vec<Verdict>) -> Self {
        let modulus = u32::try_from(verdicts.len()).unwrap_or(u32::MAX).max(1);
        let texts: Vec<_> = verdicts
            .iter()
            .enumerate()
            .map(|(i, v)| format!("{i} : {v}"))
            .collect();
        let pairs = (0_u32..)
            .map(|i| i.to_ne_bytes().to_vec())
            .zip(verdicts)
            .collect();
        let elements = Elements::Verdicts(pairs);
        let map = AnonymousSet {
            key_type: key_type::INTEGER,
            key_len: 4,
            elements,
        };
        self.exprs.push(Expr::Random { modulus });
        self.exprs.push(Expr::VerdictMap { map });
        self.say(format!(
            "numgen random mod {modulus} vmap {{ {} }}",
            texts.join(", ")
        ))
    }

    /// Counts the packets and bytes that come this far.
    #[must_use]
    pub fn counter(mut self) -> Self {
        self.exprs.push(Expr::Counter);
        self.say("counter")
    }

    /// Sets the packet's mark.
    #[must_use]
    pub fn set_mark(mut self, mark: u32) -> Self {
        self.load(REG_1, &mark.to_ne_bytes());
        self.exprs.push(Expr::SetMeta { key: meta::MARK });
        self.say(format!("meta mark set {mark:#x}"))
    }

    /// Sets the mark of the packet's connection.
    #[must_use]
    pub fn set_ct_mark(mut self, mark: u32) -> Self {
        self.load(REG_1, &mark.to_ne_bytes());
        self.exprs.push(Expr::SetCt { key: ct::MARK });
        self.say(format!("ct mark set {mark:#x}"))
    }

    /// Has the packet tracked in a zone of its own; only before tracking (priority raw).
    #[must_use]
    pub fn set_ct_zone(mut self, zone: u16) -> Self {
        self.load(REG_1, &zone.to_ne_bytes());
        self.exprs.push(Expr::SetCt { key: ct::ZONE });
        self.say(format!("ct zone set {zone}"))
    }

    /// Ends the rule with a verdict.
    #[must_use]
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        let text = verdict.to_string();
        self.exprs.push(Expr::Verdict(verdict));
        self.say(text)
    }

    /// Lets the packet go on.
    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// Drops the packet.
    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    /// Ends this chain.
    #[must_use]
    pub fn ret(self) -> Self {
        self.verdict(Verdict::Return)
    }

    /// Runs another chain and comes back.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump(chain.to_owned()))
    }

    /// Goes on in another chain for good.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain.to_owned()))
    }

    /// Refuses the packet: TCP by a reset, the rest by an ICMP error.
    ///
    /// Ask for the protocol first ([`Rule::l4proto`] or a port) for a reset.
    #[must_use]
    pub fn reject(mut self) -> Self {
        if self.has_protocol(L4::Tcp) {
            self.exprs.push(Expr::RejectTcp);
            self.say("reject with tcp reset")
        } else {
            self.exprs.push(Expr::RejectAny);
            self.say("reject")
        }
    }

    /// Sends the connection to another address and port.
    #[must_use]
    pub fn dnat(self, to: SocketAddr) -> Self {
        self.nat(NatKind::Destination, to.ip(), Some(to.port()))
    }

    /// Sends the connection to the same port of another address.
    #[must_use]
    pub fn dnat_address(self, to: IpAddr) -> Self {
        self.nat(NatKind::Destination, to, None)
    }

    /// Has the connection come from another address.
    #[must_use]
    pub fn snat(self, from: IpAddr) -> Self {
        self.nat(NatKind::Source, from, None)
    }

    /// Has the connection come from the address of the interface that it leaves by.
    #[must_use]
    pub fn masquerade(mut self) -> Self {
        self.exprs.push(Expr::Masquerade);
        self.say("masquerade")
    }

    /// Sends the connection to a port of this machine.
    #[must_use]
    pub fn redirect(mut self, port: u16) -> Self {
        self.load(REG_1, &port.to_be_bytes());
        self.exprs.push(Expr::Redirect);
        self.say(format!("redirect to :{port}"))
    }

    /// A note that `nft list ruleset` shows; longer ones are cut.
    #[must_use]
    pub fn comment(mut self, comment: &str) -> Self {
        let end = (0..=MAX_COMMENT.min(comment.len()))
            .rev()
            .find(|end| comment.is_char_boundary(*end));
        self.comment = Some(comment[..end.unwrap_or(0)].to_owned());
        self
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn pick<T>(self, source: T, destination: T) -> T {
        match self {
            Self::Source => source,
            Self::Destination => destination,
        }
    }
}

impl Rule {
    fn say(mut self, text: impl Into<String>) -> Self {
        self.text.push(text.into());
        self
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        self.exprs.push(Expr::Immediate {
            register,
            value: value.to_vec(),
        });
    }

    fn require(&mut self, key: u32, value: Vec<u8>) {
        let test = [Expr::Meta { key }, Expr::Compare { equal: true, value }];
        if !self.exprs.windows(2).any(|pair| *pair == test) {
            self.exprs.extend(test);
        }
    }

    fn require_family(&mut self, family: u32) {
        self.require(
            meta::NFPROTO,
            vec![u8::try_from(family).unwrap_or_default()],
        );
    }

    fn require_protocol(&mut self, protocol: L4) {
        self.require(meta::L4PROTO, vec![protocol.number()]);
    }

    fn has_protocol(&self, protocol: L4) -> bool {
        let test = [
            Expr::Meta { key: meta::L4PROTO },
            Expr::Compare {
                equal: true,
                value: vec![protocol.number()],
            },
        ];
        self.exprs.windows(2).any(|pair| *pair == test)
    }

    fn number(mut self, load: Expr, name: &str, value: u32, equal: bool) -> Self {
        self.exprs.push(load);
        self.exprs.push(Expr::Compare {
            equal,
            value: value.to_ne_bytes().to_vec(),
        });
        self.say(format!("{name} {}{value}", not(equal)))
    }

    fn ct_bits(mut self, key: u32, name: &str, bits: u32) -> Self {
        self.exprs.push(Expr::Ct { key });
        self.exprs.push(Expr::Mask {
            mask: bits.to_ne_bytes().to_vec(),
        });
        self.exprs.push(Expr::Compare {
            equal: false,
            value: vec![0; 4],
        });
        self.say(format!("{name} {bits:#x}"))
    }

    fn interface(mut self, key: u32, keyword: &str, name: &str, equal: bool) -> Self {
        const IFNAMSIZ: usize = 16;
        let mut value = vec![0; IFNAMSIZ];
        let used = name.len().min(IFNAMSIZ - 1);
        value[..used].copy_from_slice(&name.as_bytes()[..used]);
        self.exprs.push(Expr::Meta { key });
        self.exprs.push(Expr::Compare { equal, value });
        self.say(format!("{keyword} {}\"{name}\"", not(equal)))
    }

    fn address(mut self, side: Side, net: IpNet, equal: bool) -> Self {
        let (family, keyword, offset, value, mask) = match net {
            IpNet::V4(net) => {
                let (value, mask) = (
                    net.network().octets().to_vec(),
                    net.netmask().octets().to_vec(),
                );
                (NFPROTO_IPV4, "ip", side.pick(12, 16), value, mask)
            }
            IpNet::V6(net) => {
                let (value, mask) = (
                    net.network().octets().to_vec(),
                    net.netmask().octets().to_vec(),
                );
                (NFPROTO_IPV6, "ip6", side.pick(8, 24), value, mask)
            }
        };
        self.require_family(family);
        let len = u32::try_from(value.len()).unwrap_or_default();
        self.exprs.push(Expr::Payload {
            base: PayloadBase::Network,
            offset,
            len,
        });
        if net.prefix_len() < net.max_prefix_len() {
            self.exprs.push(Expr::Mask { mask });
        }
        self.exprs.push(Expr::Compare { equal, value });
        self.say(format!(
            "{keyword} {} {}{net}",
            side.pick("saddr", "daddr"),
            not(equal)
        ))
    }

    fn port(mut self, protocol: L4, side: Side, ports: Ports, inside: bool) -> Self {
        self.require_protocol(protocol);
        let text = format!(
            "{} {} {}{ports}",
            protocol.name(),
            side.pick("sport", "dport"),
            not(inside)
        );
        self.exprs.push(Expr::Payload {
            base: PayloadBase::Transport,
            offset: side.pick(0, 2),
            len: 2,
        });
        let bytes = |port: u16| port.to_be_bytes().to_vec();
        self.exprs.push(match ports {
            Ports::One(port) => Expr::Compare {
                equal: inside,
                value: bytes(port),
            },
            Ports::Range(from, to) => Expr::Range {
                inside,
                from: bytes(from),
                to: bytes(to),
            },
            Ports::AnyOf(ports) => {
                let elements = Elements::Values(ports.into_iter().map(bytes).collect());
                let set = AnonymousSet {
                    key_type: key_type::PORT,
                    key_len: 2,
                    elements,
                };
                Expr::Lookup { set, inside }
            }
        });
        self.say(text)
    }

    fn nat(mut self, kind: NatKind, address: IpAddr, port: Option<u16>) -> Self {
        let (family, keyword) = match address {
            IpAddr::V4(v4) => {
                self.require_family(NFPROTO_IPV4);
                self.load(REG_1, &v4.octets());
                (NFPROTO_IPV4, "ip")
            }
            IpAddr::V6(v6) => {
                self.require_family(NFPROTO_IPV6);
                self.load(REG_1, &v6.octets());
                (NFPROTO_IPV6, "ip6")
            }
        };
        if let Some(port) = port {
            self.load(REG_2, &port.to_be_bytes());
        }
        let target = port.map_or_else(
            || address.to_string(),
            |port| SocketAddr::new(address, port).to_string(),
        );
        let verb = match kind {
            NatKind::Source => "snat",
            NatKind::Destination => "dnat",
        };
        self.exprs.push(Expr::Nat {
            kind,
            family,
            port: port.is_some(),
        });
        self.say(format!("{verb} {keyword} to {target}"))
    }
}

fn not(equal: bool) -> &'static str {
    if equal { "" } else { "!= " }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.join(" "))?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        Ok(())
    }
}
