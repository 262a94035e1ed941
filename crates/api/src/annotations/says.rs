//! What annotations of pods may say. Analysis tells of what is wrong, and injection refuses what capture
//! could not carry out, so both go by this.

use ipnet::IpNet;

use super as named;

/// The form of an annotation's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Any text.
    Anything,
    /// `true` or `false`.
    Bool,
    /// A number of things or seconds.
    Number,
    /// One port; 0 is none.
    Port,
    /// Ports with commas between them.
    Ports,
    /// The same, or `*`.
    PortsOrAll,
    /// Ranges of addresses, or addresses, with commas between them.
    Ranges,
    /// The same, or `*`.
    RangesOrAll,
    /// How connections are captured.
    Mode,
}

/// Annotations of pods that may not say anything they like.
const OF_PODS: [(&str, Says); 19] = [
    (named::INJECT, Says::Bool),
    (named::REWRITE_PROBERS, Says::Bool),
    (named::CAP_NET_BIND_SERVICE, Says::Bool),
    (named::NATIVE_SIDECAR, Says::Bool),
    (named::MERGE_METRICS, Says::Bool),
    ("ambient.istio.io/bypass-inbound-capture", Says::Bool),
    ("ambient.istio.io/dns-capture", Says::Bool),
    (named::INTERCEPTION_MODE, Says::Mode),
    (named::INCLUDE_OUTBOUND_IP_RANGES, Says::RangesOrAll),
    (named::EXCLUDE_OUTBOUND_IP_RANGES, Says::Ranges),
    (named::INCLUDE_INBOUND_PORTS, Says::PortsOrAll),
    (named::EXCLUDE_INBOUND_PORTS, Says::Ports),
    (named::INCLUDE_OUTBOUND_PORTS, Says::Ports),
    (named::EXCLUDE_OUTBOUND_PORTS, Says::Ports),
    (named::READINESS_PORTS, Says::PortsOrAll),
    (named::STATUS_PORT, Says::Port),
    (named::READINESS_INITIAL_DELAY, Says::Number),
    (named::READINESS_PERIOD, Says::Number),
    (named::READINESS_FAILURE, Says::Number),
];

impl Says {
    /// What an annotation of pods may say.
    pub fn of(name: &str) -> Self {
        let found = OF_PODS.iter().find(|(known, _)| *known == name);
        found.map_or(Self::Anything, |(_, says)| *says)
    }

    /// What is wrong with a value; `None` is nothing.
    pub fn fault(self, value: &str) -> Option<String> {
        let items = || value.split(',').map(str::trim).filter(|it| !it.is_empty());
        let bad_port = |all: bool| {
            let bad = items().find(|it| !(it.parse::<u16>().is_ok() || all && *it == "*"));
            bad.map(|it| format!("{it:?} is no port; write numbers with commas between"))
        };
        let bad_range = |all: bool| {
            let bad = items().find(|it| !(is_range(it) || all && *it == "*"));
            bad.map(|it| format!("{it:?} is no range of addresses, as 10.0.0.0/8 is"))
        };
        let unless = |good: bool, must: &str| (!good).then(|| format!("{value:?} must be {must}"));
        match self {
            Self::Anything => None,
            Self::Bool => unless(value.parse::<bool>().is_ok(), "true or false"),
            // Kubernetes' own fields end here.
            Self::Number => unless(
                value.parse::<i32>().is_ok_and(|number| number >= 0),
                "a number from 0 to 2147483647",
            ),
            Self::Port => unless(value.parse::<u16>().is_ok(), "a number from 0 to 65535"),
            Self::Ports => bad_port(false),
            Self::PortsOrAll => bad_port(true),
            Self::Ranges => bad_range(false),
            Self::RangesOrAll => bad_range(true),
            Self::Mode => unless(
                ["", "REDIRECT", "TPROXY", "NONE"].contains(&value),
                "REDIRECT, TPROXY or NONE",
            ),
        }
    }
}

/// An address stands for itself.
fn is_range(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_judged_by_what_they_are_for() {
        let check = |name: &str, good: &[&str], bad: &[&str]| {
            for value in good {
                assert_eq!(Says::of(name).fault(value), None, "{name}: {value}");
            }
            for value in bad {
                assert!(Says::of(name).fault(value).is_some(), "{name}: {value}");
            }
        };
        let ranges = ["10.0.0.0/8", "10.0.0.1, fd00::/8,", ""];
        let no_ranges = ["10.0/8", "10.0.0.0/33", "a"];
        check(named::INCLUDE_OUTBOUND_IP_RANGES, &ranges, &no_ranges);
        check(named::INCLUDE_OUTBOUND_IP_RANGES, &["*"], &[]);
        check(named::EXCLUDE_OUTBOUND_IP_RANGES, &ranges, &["*"]);
        let (ports, no_ports) = (["80,443", " 22 , 23", ""], ["web", "65536", "-1"]);
        check(named::INCLUDE_INBOUND_PORTS, &ports, &no_ports);
        check(named::INCLUDE_INBOUND_PORTS, &["*"], &[]);
        check(named::EXCLUDE_OUTBOUND_PORTS, &ports, &["*", "80-90"]);
        check(named::STATUS_PORT, &["0", "15020"], &["", "65536", "abc"]);
        check(named::READINESS_PERIOD, &["0", "100000"], &["5s", "-1"]);
        check(named::INTERCEPTION_MODE, &["NONE"], &["none", "TUN"]);
        check(named::MERGE_METRICS, &["true"], &["yes"]);
        check(named::PROXY_IMAGE, &["", "anything"], &[]);
    }
}
