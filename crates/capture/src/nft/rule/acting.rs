//! The actions of a rule: what becomes of the packets that it is for.

use std::net::{IpAddr, SocketAddr};

use super::super::expr::{Expr, NatKind, REG_1, REG_2, Verdict, ct, meta};
use super::{L4, NFPROTO_IPV4, NFPROTO_IPV6, Rule};

impl Rule {
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
