//! The tests of a rule: which packets it is for.

use ipnet::IpNet;

use super::super::expr::{Expr, PayloadBase, Verdict, ct, meta};
use super::super::set::{AnonymousSet, Elements, key_type};
use super::{L4, NFPROTO_IPV4, NFPROTO_IPV6, Ports, Rule};

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

impl Rule {
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
}

fn not(equal: bool) -> &'static str {
    if equal { "" } else { "!= " }
}
