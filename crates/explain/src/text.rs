//! An explanation as people read it.

use std::fmt;

use crate::answer::{
    Candidate, Carried, Choice, Cluster, Destination, Explanation, Outcome, Said, Source,
};

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
            Outcome::Dropped => writeln!(f, "outcome     dropped: no rule leads it anywhere"),
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
        }?;
        for note in &self.notes {
            writeln!(f, "note        {note}")?;
        }
        Ok(())
    }
}

/// `VirtualService default/reviews spec.http[1] (routes.yaml:12)`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        match self.place.as_str() {
            "" => Ok(()),
            place => write!(f, " ({place})"),
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
    for from in &choice.from {
        writeln!(f, "            from {from}")?;
    }
    said(f, &choice.said)?;
    for other in &choice.others {
        writeln!(f, "            not {}", Other(other))?;
    }
    Ok(())
}

fn said(f: &mut fmt::Formatter<'_>, all: &[Said]) -> fmt::Result {
    for Said { what, by } in all {
        writeln!(f, "            {what} by {by}")?;
    }
    Ok(())
}

/// `#0 jason: spec.http[0].match[0].headers[end-user]: wants exact "jason", the request has none
/// (VirtualService default/reviews, routes.yaml:9)`.
struct Other<'a>(&'a Candidate);

impl fmt::Display for Other<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { name, why, from } = self.0;
        let fields = from.iter().map(|source| source.field.as_str());
        let fields: Vec<&str> = fields.filter(|field| !field.is_empty()).collect();
        for part in [name.as_str(), &fields.join(" and ")] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(why)?;
        for source in from {
            write!(f, " ({}", source.object)?;
            if !source.place.is_empty() {
                write!(f, ", {}", source.place)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

fn forward(f: &mut fmt::Formatter<'_>, to: &Destination) -> fmt::Result {
    for cluster in &to.clusters {
        one(f, cluster, to.carries)?;
    }
    if to.carries != Carried::Requests {
        return Ok(());
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
    if !to.session.is_empty() {
        writeln!(f, "session     {}", to.session)?;
    }
    for (cluster, percent) in &to.mirrors {
        writeln!(f, "mirror      {cluster}, {percent} %")?;
    }
    for fault in &to.faults {
        writeln!(f, "fault       {fault}")?;
    }
    Ok(())
}

fn one(f: &mut fmt::Formatter<'_>, cluster: &Cluster, carries: Carried) -> fmt::Result {
    let lost = match carries {
        Carried::Requests => "503",
        Carried::Connections => "closed",
        Carried::Datagrams => "dropped",
    };
    write!(f, "cluster     {}", cluster.name)?;
    if cluster.percent < 100.0 {
        write!(f, ", {} %", cluster.percent)?;
    }
    writeln!(f)?;
    if !cluster.known {
        return writeln!(f, "            the proxy has no such cluster: {lost}");
    }
    for (what, source) in [
        ("led to by", &cluster.destination),
        ("service", &cluster.service),
        ("seen by", &cluster.seen_by),
    ] {
        if let Some(source) = source {
            writeln!(f, "            {what} {source}")?;
        }
    }
    for (n, rule) in cluster.from.iter().enumerate() {
        write!(f, "            from {rule}")?;
        if n == 0 && !cluster.found_in.is_empty() {
            write!(f, ", found in {}", cluster.found_in)?;
        }
        writeln!(f)?;
    }
    if let Some(subset) = &cluster.subset {
        writeln!(f, "            subset {subset}")?;
    }
    said(f, &cluster.said)?;
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
        writeln!(f, "            no endpoints: {lost}")?;
    }
    Ok(())
}
