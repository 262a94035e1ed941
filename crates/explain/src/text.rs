//! An explanation as people read it.

use std::fmt;

use crate::answer::{Choice, Cluster, Destination, Explanation, Outcome};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        step(f, "listener", self.listener.as_ref())?;
        step(f, "chain", self.chain.as_ref())?;
        if !self.downstream.is_empty() {
            writeln!(f, "            {}", self.downstream)?;
        }
        if !self.table.is_empty() {
            writeln!(f, "routes      {}", self.table)?;
        }
        step(f, "host", self.host.as_ref())?;
        step(f, "route", self.route.as_ref())?;
        match &self.outcome {
            Outcome::NoListener => writeln!(f, "outcome     no listener takes it"),
            Outcome::NoChain => writeln!(f, "outcome     no filter chain takes it: closed"),
            Outcome::Closed => writeln!(f, "outcome     closed"),
            Outcome::NoHost => writeln!(f, "outcome     404: no virtual host has this authority"),
            Outcome::NoRoute => writeln!(f, "outcome     404: no route takes this request"),
            Outcome::HttpsRequired => writeln!(f, "outcome     301: to https"),
            Outcome::Answer { status } => writeln!(f, "outcome     {status}, by the proxy itself"),
            Outcome::Redirect(to) => {
                write!(f, "outcome     {}: to", to.status)?;
                for (what, value) in [
                    ("scheme", &to.scheme),
                    ("host", &to.host),
                    ("path", &to.path),
                ] {
                    if !value.is_empty() {
                        write!(f, " {what} {value}")?;
                    }
                }
                if let Some(port) = to.port {
                    write!(f, " port {port}")?;
                }
                writeln!(f)
            }
            Outcome::Forward(to) => forward(f, to),
        }
    }
}

fn step(f: &mut fmt::Formatter<'_>, what: &str, choice: Option<&Choice>) -> fmt::Result {
    let Some(choice) = choice else {
        return Ok(());
    };
    let name = if choice.name.is_empty() {
        "none"
    } else {
        &choice.name
    };
    write!(f, "{what:<11} {name}")?;
    if !choice.why.is_empty() {
        write!(f, ": {}", choice.why)?;
    }
    writeln!(f)?;
    if !choice.from.is_empty() {
        writeln!(f, "            from {}", choice.from)?;
    }
    for other in &choice.others {
        write!(f, "            not {}: {}", other.name, other.why)?;
        if !other.from.is_empty() && other.from != choice.from {
            write!(f, " (from {})", other.from)?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn forward(f: &mut fmt::Formatter<'_>, to: &Destination) -> fmt::Result {
    for cluster in &to.clusters {
        one(f, cluster)?;
    }
    match to.timeout_ms {
        Some(timeout) => writeln!(f, "timeout     {timeout} ms")?,
        None => writeln!(f, "timeout     none")?,
    }
    let retries = if to.retries.is_empty() {
        "none"
    } else {
        &to.retries
    };
    writeln!(f, "retries     {retries}")?;
    if !to.path.is_empty() {
        writeln!(f, "path        {}", to.path)?;
    }
    if !to.authority.is_empty() {
        writeln!(f, "authority   {}", to.authority)?;
    }
    for (cluster, percent) in &to.mirrors {
        writeln!(f, "mirror      {cluster}, {percent} %")?;
    }
    for fault in &to.faults {
        writeln!(f, "fault       {fault}")?;
    }
    Ok(())
}

fn one(f: &mut fmt::Formatter<'_>, cluster: &Cluster) -> fmt::Result {
    write!(f, "cluster     {}", cluster.name)?;
    if cluster.percent < 100.0 {
        write!(f, ", {} %", cluster.percent)?;
    }
    writeln!(f)?;
    if !cluster.known {
        return writeln!(f, "            the proxy has no such cluster: 503");
    }
    if !cluster.from.is_empty() {
        writeln!(f, "            from {}", cluster.from)?;
    }
    writeln!(
        f,
        "            by {}, {}",
        cluster.policy,
        cluster.tls.join(" or ")
    )?;
    if !cluster.hosts_from.is_empty() {
        writeln!(f, "            hosts: {}", cluster.hosts_from)?;
    }
    for host in &cluster.hosts {
        write!(f, "            {} {} %", host.address, host.percent)?;
        if !host.workload.is_empty() {
            write!(f, " {}", host.workload)?;
        }
        writeln!(f)?;
    }
    if cluster.hosts.is_empty() && cluster.hosts_from.is_empty() {
        writeln!(f, "            no endpoints: 503")?;
    }
    Ok(())
}
