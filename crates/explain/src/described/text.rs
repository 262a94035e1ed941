//! A description as people read it. Headings are those that `istioctl` has.

use std::fmt;

use super::{DescribedPolicy, DescribedRule, DescribedService, DescribedWorkload, Leading};

impl fmt::Display for DescribedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Service: {}.{}", self.name, self.namespace)?;
        for port in &self.ports {
            let name = match port.name.as_str() {
                "" => "(unnamed)",
                name => name,
            };
            let (number, protocol, target) = (port.number, port.protocol, &port.target);
            writeln!(
                f,
                "   Port: {name} {number}/{protocol} targets pod port {target}"
            )?;
        }
        if !self.seen && !self.ports.is_empty() {
            writeln!(
                f,
                "   No client in namespace {} sees it: a Sidecar or exportTo leaves it out",
                self.namespace
            )?;
        }
        self.rules.iter().try_for_each(|rule| write!(f, "{rule}"))?;
        self.within(f)?;
        self.write_outside(f)
    }
}

impl DescribedService {
    /// Rules for clients in the mesh.
    fn within(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_within = |rule: &&Leading| rule.gateways.iter().any(|name| name == "mesh");
        let rules: Vec<&Leading> = self.leading.iter().filter(is_within).collect();
        objects(f, &rules)?;
        for object in &self.elsewhere {
            let text = format!("{object}: for this host, but none of its rules leads here");
            writeln!(f, "{text}")?;
        }
        Ok(())
    }

    /// Rules at gateways.
    fn write_outside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for exposed in &self.exposed {
            match exposed.at.as_slice() {
                [] => writeln!(
                    f,
                    "Exposed on Gateway {}, which has no address outside of the cluster",
                    exposed.gateway
                )?,
                at => writeln!(
                    f,
                    "Exposed on Gateway {}: {}",
                    exposed.gateway,
                    at.join(", ")
                )?,
            }
            let is_there = |rule: &&Leading| rule.gateways.contains(&exposed.gateway);
            let rules: Vec<&Leading> = self.leading.iter().filter(is_there).collect();
            objects(f, &rules)?;
        }
        Ok(())
    }
}

/// Rules under their objects.
fn objects(f: &mut fmt::Formatter<'_>, rules: &[&Leading]) -> fmt::Result {
    for (at, rule) in rules.iter().enumerate() {
        if at == 0 || rules[at - 1].object != rule.object {
            let (kind, name) = rule.object.split_once(' ').unwrap_or(("", &rule.object));
            writeln!(f, "{kind}: {name} for {}", rule.hosts.join(", "))?;
        }
        write!(f, "{rule}")?;
    }
    Ok(())
}

/// `   Rule 2 of 3 (HTTP): header end-user=jason → v2 100 %`.
impl fmt::Display for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, count) = self.place;
        let when = match self.when.as_slice() {
            [] => "all".to_owned(),
            several => several.join("; or "),
        };
        let to = self
            .to
            .iter()
            .map(|(subset, percent)| match subset.as_str() {
                "" => format!("{} %", rounded(*percent)),
                subset => format!("subset {subset} {} %", rounded(*percent)),
            });
        let to: Vec<String> = to.collect();
        write!(
            f,
            "   {} rule {at} of {count}: {when} -> {}",
            self.protocol,
            to.join(", ")
        )?;
        if !self.also.is_empty() {
            write!(f, " (with {})", self.also.join(", "))?;
        }
        if !self.here {
            write!(f, "; not to this pod")?;
        }
        writeln!(f)
    }
}

/// With one decimal at most.
fn rounded(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

impl fmt::Display for DescribedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DestinationRule: {} for \"{}\"", self.object, self.host)?;
        match (self.subsets.as_slice(), self.other_subsets.as_slice()) {
            ([], []) => {}
            ([], others) => {
                writeln!(
                    f,
                    "   WARNING pod is in none of the subsets {}",
                    others.join(", ")
                )?;
            }
            (own, []) => writeln!(f, "   Matching subsets: {}", own.join(", "))?,
            (own, others) => {
                writeln!(f, "   Matching subsets: {}", own.join(", "))?;
                writeln!(f, "      (Non-matching subsets {})", others.join(", "))?;
            }
        }
        let DescribedPolicy { tls, others } = &self.policy;
        if let Some(tls) = tls {
            writeln!(f, "   Traffic Policy TLS Mode: {tls}")?;
        }
        if !others.is_empty() {
            writeln!(f, "   Policies: {}", others.join(", "))?;
        }
        if self.policy == DescribedPolicy::default() && self.of_ports.is_empty() {
            writeln!(f, "   No Traffic Policy")?;
        }
        self.write_ports(f)
    }
}

impl DescribedRule {
    /// What is said of single ports, which the rest of the policy does not hold for.
    fn write_ports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.of_ports.is_empty() {
            writeln!(f, "   Port Level Settings:")?;
        }
        for (port, DescribedPolicy { tls, others }) in &self.of_ports {
            writeln!(f, "      {port}:")?;
            if let Some(tls) = tls {
                writeln!(f, "         TLS Mode: {tls}")?;
            }
            if !others.is_empty() {
                writeln!(f, "         Policies: {}", others.join(", "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for DescribedWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Effective PeerAuthentication:")?;
        for mode in &self.modes {
            match mode.port {
                0 => write!(f, "   Workload mTLS mode: {}", mode.mode)?,
                port => write!(f, "   Port {port} mTLS mode: {}", mode.mode)?,
            }
            match mode.by.as_str() {
                "" => writeln!(f, " (nothing says otherwise)")?,
                by => writeln!(f, " (by {by})")?,
            }
        }
        if let Some(sidecar) = &self.sidecar {
            writeln!(f, "Sidecar: {sidecar}")?;
        }
        for filter in &self.filters {
            writeln!(f, "EnvoyFilter: {filter}")?;
        }
        Ok(())
    }
}
