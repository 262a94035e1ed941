//! The level `baseline`: nothing that is known to lead from a pod to its machine.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Violation, containers, counted, name, plural, quoted, setters, those};
use crate::apiserver::meta;

/// What may be added: the set that container runtimes begin with.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The mesh's init container, which writes the rules of its pod's network.
const CAPTURE: &str = "istio-init";
/// What it adds. In a pod with users of its own these count in the pod's own network and nowhere else
/// ([`crate::net`]), so that there is no way from them to the machine. Anywhere else they are refused.
const OF_CAPTURE: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SE_LINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// Settings of the kernel that are a pod's own.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

type Check = fn(&Value) -> Option<Violation>;

/// All checks; `narrower` leaves out those of which [`super::restricted`] has a narrower one.
pub(super) fn check(pod: &Value, narrower: bool) -> Vec<Violation> {
    let all: [(Check, bool); 11] = [
        (app_armor, false),
        (capabilities, true),
        (host_namespaces, false),
        (host_paths, true),
        (host_ports, false),
        (privileged, false),
        (proc_mount, false),
        (se_linux, false),
        (seccomp, true),
        (sysctls, false),
        (host_process, false),
    ];
    let wanted = all
        .iter()
        .filter(|(_, has_narrower)| !(narrower && *has_narrower));
    wanted.filter_map(|(check, _)| check(pod)).collect()
}

fn app_armor(pod: &Value) -> Option<Violation> {
    let is_bad = |context: &'_ Value| -> bool {
        let kind = context["appArmorProfile"]["type"].as_str();
        kind.is_some_and(|kind| !matches!(kind, "RuntimeDefault" | "Localhost"))
    };
    let (mut who, values) = setters(pod, |context| {
        is_bad(context).then(|| {
            context["appArmorProfile"]["type"]
                .as_str()
                .unwrap_or_default()
        })
    });
    let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
    let annotations = pod["metadata"]["annotations"].as_object();
    let bad: BTreeSet<String> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !bad.is_empty() {
        let bad: Vec<String> = bad.into_iter().collect();
        who.push(format!("annotation{}", plural(&bad)));
        values.extend(bad);
    }
    let reason = format!("forbidden AppArmor profile{}", plural(&values));
    (!who.is_empty()).then(|| {
        let (who, values) = (who.join(" and "), quoted(&values));
        Violation::new(
            reason,
            format!("{who} must not set AppArmor profile type to {values}"),
        )
    })
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let own_users = pod["spec"]["hostUsers"] == false;
    let mut names = Vec::new();
    let mut bad = BTreeSet::new();
    for (list, container) in containers(pod) {
        let captures = own_users && list == "initContainers" && name(container) == CAPTURE;
        let added = meta::list(container, "/securityContext/capabilities/add");
        let forbidden: Vec<&str> = added
            .iter()
            .filter_map(Value::as_str)
            .filter(|one| !CAPABILITIES.contains(one))
            .filter(|one| !(captures && OF_CAPTURE.contains(one)))
            .collect();
        if !forbidden.is_empty() {
            names.push(name(container));
            bad.extend(forbidden);
        }
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    (!names.is_empty()).then(|| {
        let (who, bad) = (counted("container", &names), quoted(&bad));
        Violation::new(
            "non-default capabilities",
            format!("{who} must not include {bad} in securityContext.capabilities.add"),
        )
    })
}

fn host_namespaces(pod: &Value) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod["spec"][field] == true)
        .map(|field| format!("{field}=true"));
    let shared: Vec<String> = shared.collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

fn host_paths(pod: &Value) -> Option<Violation> {
    let volumes = meta::list(pod, "/spec/volumes").iter();
    let bad = volumes.filter(|volume| !volume["hostPath"].is_null());
    let bad: Vec<&str> = bad.map(name).collect();
    (!bad.is_empty()).then(|| Violation::new("hostPath volumes", counted("volume", &bad)))
}

fn host_ports(pod: &Value) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = meta::list(container, "/ports").iter();
        let ports = ports.filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let names = those(pod, |container| !ports(container).is_empty());
    let all: BTreeSet<i64> = containers(pod).flat_map(|(_, one)| ports(one)).collect();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let who = counted("container", &names);
        let (many, ports) = (plural(&all), all.join(", "));
        Violation::new("hostPort", format!("{who} {verb} hostPort{many} {ports}"))
    })
}

fn privileged(pod: &Value) -> Option<Violation> {
    let bad = those(pod, |one| one["securityContext"]["privileged"] == true);
    (!bad.is_empty()).then(|| {
        let who = counted("container", &bad);
        Violation::new(
            "privileged",
            format!("{who} must not set securityContext.privileged=true"),
        )
    })
}

fn proc_mount(pod: &Value) -> Option<Violation> {
    let bad = |context: &Value| {
        let kind = context["procMount"].as_str();
        kind.is_some_and(|kind| kind != "Default")
    };
    let names = those(pod, |one| bad(&one["securityContext"]));
    let values: BTreeSet<&str> = containers(pod)
        .filter(|(_, one)| bad(&one["securityContext"]))
        .filter_map(|(_, one)| one["securityContext"]["procMount"].as_str())
        .collect();
    let values: Vec<&str> = values.into_iter().collect();
    (!names.is_empty()).then(|| {
        let (who, values) = (counted("container", &names), quoted(&values));
        Violation::new(
            "procMount",
            format!("{who} must not set securityContext.procMount to {values}"),
        )
    })
}

fn se_linux(pod: &Value) -> Option<Violation> {
    let text = |context: &'_ Value, field: &str| -> String {
        let value = context["seLinuxOptions"][field].as_str();
        value.unwrap_or_default().to_owned()
    };
    let is_bad = |context: &Value| {
        !SE_LINUX_TYPES.contains(&&*text(context, "type"))
            || !text(context, "user").is_empty()
            || !text(context, "role").is_empty()
    };
    let (who, _) = setters(pod, |context| is_bad(context).then_some(""));
    if who.is_empty() {
        return None;
    }
    let of_containers = containers(pod).map(|(_, one)| &one["securityContext"]);
    let contexts: Vec<&Value> = std::iter::once(&pod["spec"]["securityContext"])
        .chain(of_containers)
        .collect();
    let types: BTreeSet<String> = contexts
        .iter()
        .map(|context| text(context, "type"))
        .filter(|kind| !SE_LINUX_TYPES.contains(&&**kind))
        .collect();
    let types: Vec<String> = types.into_iter().collect();
    let mut bad = Vec::new();
    if !types.is_empty() {
        bad.push(format!("type{} {}", plural(&types), quoted(&types)));
    }
    for field in ["user", "role"] {
        if contexts
            .iter()
            .any(|context| !text(context, field).is_empty())
        {
            bad.push(format!("{field} may not be set"));
        }
    }
    let (who, bad) = (who.join(" and "), bad.join("; "));
    Some(Violation::new(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {bad}"),
    ))
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let (who, values) = setters(pod, bad_seccomp);
    (!who.is_empty()).then(|| forbidden_seccomp(&who, &values))
}

/// A seccomp profile that no level but `privileged` allows.
pub(super) fn bad_seccomp(context: &Value) -> Option<&str> {
    let kind = context["seccompProfile"]["type"].as_str();
    kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
}

pub(super) fn forbidden_seccomp(who: &[String], values: &[&str]) -> Violation {
    let (who, values) = (who.join(" and "), quoted(values));
    Violation::new(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {values}"),
    )
}

fn sysctls(pod: &Value) -> Option<Violation> {
    let set = meta::list(pod, "/spec/securityContext/sysctls").iter();
    let bad: BTreeSet<&str> = set.map(name).filter(|one| !SYSCTLS.contains(one)).collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

fn host_process(pod: &Value) -> Option<Violation> {
    let (who, _) = setters(pod, |context| {
        (context["windowsOptions"]["hostProcess"] == true).then_some("")
    });
    (!who.is_empty()).then(|| {
        let who = who.join(" and ");
        Violation::new(
            "hostProcess",
            format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
        )
    })
}
