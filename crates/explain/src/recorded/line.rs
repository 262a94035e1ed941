//! One line of an access log.

use std::fmt;
use std::net::SocketAddr;

use serde_json::Value;

/// Quoted parts, parts in brackets and words of Istio's default text format.
const PARTS: usize = 22;

/// A request or connection as a proxy recorded it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// False for bytes that are no HTTP.
    pub http: bool,
    /// That HTTP/2 was spoken.
    pub h2: bool,
    /// The method; empty where there is none.
    pub method: String,
    /// The authority; empty where there is none.
    pub authority: String,
    /// The path with its query, as it came; empty where there is none.
    pub path: String,
    /// The cluster that it went to; empty where it went to none.
    pub cluster: String,
    /// Where it was going.
    pub destination: SocketAddr,
    /// Where it came from, without the port.
    pub source: std::net::IpAddr,
    /// The server name that TLS asked for; empty where there is none.
    pub server_name: String,
    /// Headers that the log holds, their names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Recorded {
    /// Reads a line; `None` for what is no such line.
    pub fn parse(line: &str) -> Option<Recorded> {
        let line = line.trim();
        match line.starts_with('{') {
            true => Self::of_json(&serde_json::from_str(line).ok()?),
            false => Self::of_text(line),
        }
    }

    fn of_text(line: &str) -> Option<Recorded> {
        let parts = parts(line)?;
        let [
            _,
            request,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            forwarded,
            agent,
            _,
            authority,
            _,
            cluster,
            _,
            local,
            remote,
            sni,
            _,
        ] = <[&str; PARTS]>::try_from(parts).ok()?;
        let (method, rest) = request.split_once(' ')?;
        let (path, protocol) = rest.rsplit_once(' ')?;
        Self::of_parts(&Parts {
            method,
            path,
            protocol,
            authority,
            cluster,
            local,
            remote,
            sni,
            headers: [("x-forwarded-for", forwarded), ("user-agent", agent)],
        })
    }

    fn of_json(line: &Value) -> Option<Recorded> {
        let text = |field: &str| line[field].as_str().unwrap_or("-");
        Self::of_parts(&Parts {
            method: text("method"),
            path: text("path"),
            protocol: text("protocol"),
            authority: text("authority"),
            cluster: text("upstream_cluster"),
            local: text("downstream_local_address"),
            remote: text("downstream_remote_address"),
            sni: text("requested_server_name"),
            headers: [
                ("x-forwarded-for", text("x_forwarded_for")),
                ("user-agent", text("user_agent")),
            ],
        })
    }

    fn of_parts(of: &Parts<'_>) -> Option<Recorded> {
        // What is not there is a dash.
        let text = |text: &str| if text == "-" { "" } else { text }.to_owned();
        let headers = of.headers.iter();
        let headers = headers.filter(|(_, value)| *value != "-");
        Some(Recorded {
            http: of.protocol.starts_with("HTTP"),
            h2: of.protocol == "HTTP/2",
            method: text(of.method),
            authority: text(of.authority),
            path: text(of.path),
            cluster: text(of.cluster),
            destination: of.local.parse().ok()?,
            source: of.remote.parse::<SocketAddr>().ok()?.ip(),
            server_name: text(of.sni),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        })
    }
}

/// What is read of a line, wherever its format has it.
struct Parts<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    authority: &'a str,
    cluster: &'a str,
    local: &'a str,
    remote: &'a str,
    sni: &'a str,
    headers: [(&'static str, &'a str); 2],
}

/// The parts of a line of text, without their quotes and brackets; `None` where one has no end.
/// Nothing within quotes is escaped, so that they end where a space or the line's end follows.
fn parts(line: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (part, behind) = match rest.as_bytes()[0] {
            b'[' if parts.is_empty() => rest[1..].split_once(']')?,
            b'"' => {
                let within = &rest[1..];
                let end = within.match_indices('"').map(|(at, _)| at);
                let mut ends =
                    end.filter(|at| matches!(within.as_bytes().get(at + 1), None | Some(b' ')));
                let end = ends.next()?;
                (&within[..end], &within[end + 1..])
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        parts.push(part);
        rest = behind.trim_start_matches(' ');
    }
    Some(parts)
}

/// `GET reviews:9080/reviews/0`.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.http, self.server_name.as_str()) {
            (true, _) => write!(f, "{} {}{}", self.method, self.authority, self.path),
            (false, "") => write!(f, "tcp://{}", self.destination),
            (false, name) => write!(f, "tls://{name} at {}", self.destination),
        }
    }
}
