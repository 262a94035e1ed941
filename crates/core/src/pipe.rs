//! Paths of sockets in the file system, as configuration may name them: everyone who reads one, from
//! validation to the proxy that connects, asks here whether it may lead anywhere.

/// Folders that are an agent's, wherever its root is. The sockets there speak for the workload: one
/// carries whatever comes to the control plane with the pod's token, another gives out its key.
const RESERVED: [&[&str]; 3] = [
    &["etc", "istio"],
    // `/var/run` is `/run`.
    &["run", "secrets"],
    &["workload-spiffe-uds"],
];

/// The agent's socket for xDS, which may be in a folder of any name.
const XDS: &str = "XDS";

/// Why configuration may not lead to the socket of this path; `None` where it may. A name after `@`
/// stands for a socket that is in no file system.
pub fn refusal(path: &str) -> Option<&'static str> {
    if path.starts_with('@') {
        return None;
    }
    if !path.starts_with('/') || path.contains('\0') {
        return Some("it is no absolute path");
    }
    let elements: Vec<_> = elements(path).collect();
    if elements.contains(&"..") {
        return Some("a path with `..` may lead anywhere");
    }
    // What is below stands for other paths by links.
    if elements.first() == Some(&"proc") {
        return Some("sockets below /proc are other processes'");
    }
    let is_reserved = |folder: &&[&str]| elements.windows(folder.len()).any(|at| at == *folder);
    let is_agents = RESERVED.iter().any(is_reserved) || elements.last() == Some(&XDS);
    is_agents.then_some("the sockets of the mesh's agent are for the proxy beside it alone")
}

/// The path without elements that say nothing, so that one socket has one text.
pub fn plain(path: &str) -> String {
    match path.starts_with('/') {
        true => elements(path).map(|of| format!("/{of}")).collect(),
        false => path.to_owned(),
    }
}

fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|of| !of.is_empty() && *of != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_sockets_are_nobody_else_s() {
        for path in [
            "/etc/istio/proxy/XDS",
            "//etc/./istio//proxy/SDS",
            "/srv/pod/etc/istio/proxy/XDS",
            "/etc/x/../istio/proxy/XDS",
            "/opt/mesh/XDS",
            "/opt/mesh/XDS/.",
            "/var/run/secrets/workload-spiffe-uds/socket",
            "/run/secrets/tokens/a",
            "/proc/self/cwd/a",
            "etc/app",
            "/tmp/a\0b",
            "",
        ] {
            assert!(refusal(path).is_some(), "{path}");
        }
        for path in ["/run/app.sock", "/etc/istiod/a", "/run/XDS/app", "@app"] {
            assert_eq!(refusal(path), None, "{path}");
        }
    }

    #[test]
    fn one_socket_has_one_text() {
        assert_eq!(plain("/run/./a"), "/run/a");
        assert_eq!(plain("//run//a/"), "/run/a");
        assert_eq!(plain("@./a"), "@./a");
    }
}
