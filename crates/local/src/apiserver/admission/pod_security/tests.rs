//! Pods against the levels, in the words that Kubernetes has for them.

use serde_json::json;

use super::*;

fn namespace(labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({"metadata": {"name": "n", "labels": labels}})
}

fn found(level: &str, pod: &Value) -> String {
    let namespace = namespace(&[("pod-security.kubernetes.io/enforce", level)]);
    details(&Policy::of(&namespace, "enforce").violations(pod))
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

/// A pod of one container `c` with this security context.
fn with(context: Value) -> Value {
    pod(json!({"containers": [{"name": "c", "securityContext": context}]}))
}

#[test]
fn baseline_keeps_pods_off_the_machine() {
    for (spec, expect) in [
        (
            json!({"hostNetwork": true, "hostPID": true, "hostIPC": true}),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}},
                               {"name": "c", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volumes \"a\", \"c\")",
        ),
        (
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81}]}]}),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            json!({"initContainers": [{"name": "i", "securityContext": {"privileged": true}}],
                   "containers": [{"name": "c", "securityContext": {"privileged": true}}]}),
            "privileged (containers \"i\", \"c\" must not set securityContext.privileged=true)",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}},
                   "containers": [{"name": "c", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}),
            "seccompProfile (pod and container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        let pod = pod(spec);
        assert_eq!(found("baseline", &pod), expect);
        assert_eq!(found("privileged", &pod), "");
    }
    for (context, expect) in [
        (
            json!({"capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN", "CHOWN"]}}),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"procMount": "Unmasked"}),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"seLinuxOptions": {"type": "spc_t", "role": "x"}}),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; role may not be set)",
        ),
        (
            json!({"appArmorProfile": {"type": "Unconfined"}}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"windowsOptions": {"hostProcess": true}}),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"runAsUser": 0, "seLinuxOptions": {"type": "container_t"}}),
            "",
        ),
        (json!(null), ""),
    ] {
        assert_eq!(found("baseline", &with(context)), expect);
    }
    let annotated = json!({"metadata": {"annotations": {
        "container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}, "spec": {}});
    let said = found("baseline", &annotated);
    assert!(said.contains("forbidden AppArmor profile"), "{said}");
}

#[test]
fn restricted_asks_for_care() {
    assert_eq!(
        found("restricted", &with(json!({}))),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let careful = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(found("restricted", &with(careful.clone())), "");
    for (key, value, expect) in [
        (
            "runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "runAsUser",
            json!(0),
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
        (
            "capabilities",
            json!({"drop": ["ALL"], "add": ["CHOWN"]}),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        // One word for it, though both levels forbid it.
        (
            "seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        let mut context = careful.clone();
        context[key] = value;
        assert_eq!(found("restricted", &with(context)), expect);
    }
    let mut mounted = with(careful);
    mounted["spec"]["volumes"] =
        json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "s", "secret": {}}]);
    assert_eq!(
        found("restricted", &mounted),
        "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"
    );
}

#[test]
fn capturing_is_allowed_where_its_capabilities_reach_the_pod_alone() {
    let adds = |name: &str, add: &[&str]| json!({"name": name, "securityContext": {"capabilities": {"add": add}}});
    let check = |list: &str, name: &str, add: &[&str], own_users: bool, is_good: bool| {
        let mut pod = pod(json!({ list: [adds(name, add)] }));
        if own_users {
            pod["spec"]["hostUsers"] = false.into();
        }
        assert_eq!(found("baseline", &pod).is_empty(), is_good, "{pod}");
    };
    let rules = ["NET_ADMIN", "NET_RAW"];
    check("initContainers", "istio-init", &rules, true, true);
    check("initContainers", "istio-init", &rules, false, false);
    check("initContainers", "other", &rules, true, false);
    check("containers", "istio-init", &rules, true, false);
    check("initContainers", "istio-init", &["SYS_ADMIN"], true, false);
}

#[test]
fn labels_that_are_none_are_refused_and_fail_closed() {
    let check = |key: &str, value: &str, expect: &str| {
        let errors = label_errors(&namespace(&[(key, value)]));
        let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(""), expect);
    };
    let enforce = "pod-security.kubernetes.io/enforce";
    check(enforce, "baseline", "");
    check(
        enforce,
        "strict",
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
    );
    for version in ["latest", "v1.0", "v1.32"] {
        check("pod-security.kubernetes.io/warn-version", version, "");
    }
    for version in ["", "1.32", "v1.", "v1.x", "v2.0", "v1.03"] {
        let expect = format!(
            "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: {version:?}: must be \"latest\" or \"v1.x\""
        );
        check("pod-security.kubernetes.io/audit-version", version, &expect);
    }
    let odd = Policy::of(&namespace(&[(enforce, "strict")]), "enforce");
    assert_eq!(odd.level, Level::Restricted);
    let plain = Policy::of(&namespace(&[]), "enforce");
    assert_eq!(
        (plain.level, &*plain.shown),
        (Level::Privileged, "privileged:latest")
    );
}
