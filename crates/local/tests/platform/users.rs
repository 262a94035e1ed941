//! Pods that are not to reach the machine: users of their own, and volumes that no link leads out of.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use crate::mesh::{self, Mesh};
use crate::{pod, shell};

/// What root of such a pod tries, a line for each: a file that only the machine's root may read, and what
/// its root may do in the pod itself.
const TRIES: &str = "
id -u
cat $SECRET 2>/dev/null && echo read
(echo x > $SECRET) 2>/dev/null && echo wrote
ls /dev | sort | tr '\n' ' '; echo
mknod /tmp/disk b 8 0 2>/dev/null && echo made a device
mount -t tmpfs none /mnt 2>/dev/null && echo mounted
mkdir /w && echo hello > /w/word && cat /w/word
echo inside > /etc/own && cat /etc/own
cat /volume/word && echo more > /volume/own && chmod 700 /volume
cat /map/key
echo opened > /dev/stdout
";

pub(crate) fn a_pod_with_users_of_its_own_is_nobody_on_the_machine() {
    // In a folder that everybody may look into, as many of a machine's are.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "of the machine").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    Mesh::run("users", async |mesh| {
        let map: ConfigMap = serde_json::from_value(
            json!({"metadata": {"name": "map"}, "data": {"key": "mapped\n"}}),
        )
        .unwrap();
        mesh.create(&map).await;
        let mut init = shell("init", "echo shared > /volume/word");
        let mounts = json!([{"name": "volume", "mountPath": "/volume"}]);
        init["volumeMounts"] = mounts;
        let mut main = shell("main", TRIES);
        main["env"] = json!([{"name": "SECRET", "value": secret}]);
        main["volumeMounts"] = json!([
            {"name": "volume", "mountPath": "/volume"},
            {"name": "map", "mountPath": "/map"},
        ]);
        // And not as root, which the mesh's sidecar is not.
        let mut other = shell(
            "other",
            "id -u; echo opened > /dev/stdout; cat /volume/word",
        );
        other["securityContext"] = json!({"runAsUser": 1337, "runAsGroup": 1337});
        other["volumeMounts"] = json!([{"name": "volume", "mountPath": "/volume"}]);
        let spec = json!({
            "hostUsers": false, "restartPolicy": "Never",
            "initContainers": [init, other], "containers": [main],
            "volumes": [
                {"name": "volume", "emptyDir": {}},
                {"name": "map", "configMap": {"name": "map", "defaultMode": 0o400}},
            ],
        });
        mesh.create(&pod("tenant", spec)).await;
        mesh.wait("the pod to end", "tenant", |pod: &Pod| {
            matches!(mesh::phase(pod), "Failed" | "Succeeded")
        })
        .await;
        let log = mesh.logs("tenant", "main").await;
        assert_eq!(
            log,
            "0\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero \n\
             hello\ninside\nshared\nmapped\nopened\n"
        );
        let log = mesh.logs("tenant", "other").await;
        assert_eq!(log, "1337\nopened\nshared\n");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "of the machine");
    });
}

/// What is at `/proc` or is the working directory is the pod's to say, and changes nothing of that.
pub(crate) fn no_volume_makes_a_pod_the_machines_root() {
    Mesh::run("proc", async |mesh| {
        let map: ConfigMap = serde_json::from_value(
            json!({"metadata": {"name": "map"}, "data": {"uid_map": "0 0 1"}}),
        )
        .unwrap();
        mesh.create(&map).await;
        let mut main = shell(
            "main",
            "cat /etc/shadow; echo x > /dev/shm/mine; ls -n /dev/shm/mine; sleep 1",
        );
        main["volumeMounts"] = json!([{"name": "map", "mountPath": "/proc"}]);
        let mut spec = json!({
            "hostUsers": false, "restartPolicy": "Never", "containers": [main],
            "volumes": [{"name": "map", "configMap":
                {"name": "map", "items": [{"key": "uid_map", "path": "self/uid_map"}]}}],
        });
        mesh.create(&pod("feigned", spec.clone())).await;
        let has_ended = |pod: &Pod| matches!(mesh::phase(pod), "Failed" | "Succeeded");
        mesh.wait("the pod to end", "feigned", has_ended).await;
        let log = mesh.logs("feigned", "main").await;
        assert!(
            log.contains("Permission denied") && !log.contains("root:"),
            "{log}"
        );
        assert!(log.contains(" 0 0 "), "{log}");

        spec["volumes"] = json!([]);
        spec["containers"][0]["volumeMounts"] = json!([]);
        spec["containers"][0]["args"] = json!(["-c", "pwd; ls 1/fd"]);
        let of_processes = ["self", "1"];
        let all = of_processes.map(|of| (3..10).map(move |fd| (of, fd)));
        for (of, fd) in all.into_iter().flatten() {
            let name = format!("fd-{of}-{fd}");
            spec["containers"][0]["workingDir"] = format!("/proc/{of}/fd/{fd}/..").into();
            mesh.create(&pod(&name, spec.clone())).await;
            mesh.wait("the pod to end", &name, has_ended).await;
            let ended: Pod = mesh.api().get(&name).await.unwrap();
            let ended = serde_json::to_string(&ended.status).unwrap();
            assert!(ended.contains("enter the working directory"), "{ended}");
        }

        // Nor is anything made on the machine where a volume is to go by way of what is open.
        spec["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove("workingDir");
        spec["containers"][0]["args"] = json!(["-c", "true"]);
        spec["volumes"] = json!([{"name": "map", "emptyDir": {}}]);
        let made = format!("/var/tmp/lateen-test-{}", std::process::id());
        for fd in 3..10 {
            let name = format!("target-{fd}");
            let target = format!("/proc/self/fd/{fd}/..{made}");
            spec["containers"][0]["volumeMounts"] = json!([{"name": "map", "mountPath": target}]);
            mesh.create(&pod(&name, spec.clone())).await;
            mesh.wait("the pod to end", &name, has_ended).await;
            let was_made = fs::remove_dir(&made).is_ok();
            assert!(!was_made, "descriptor {fd} leads to the machine");
        }
    });
}

pub(crate) fn no_link_leads_out_of_a_volume() {
    Mesh::run("links", async |mesh| {
        // The folder of all pods' volumes is three above each volume.
        let script =
            "ln -s ../../.. /volume/out; ln -s /.host/var/tmp /volume/host; mkdir /volume/good";
        let mut init = shell("init", script);
        init["volumeMounts"] = json!([{"name": "volume", "mountPath": "/volume"}]);
        let mut main = shell("main", "ls /in; sleep 100");
        main["volumeMounts"] = json!([{"name": "volume", "mountPath": "/in", "subPath": "out"}]);
        let spec = json!({
            "hostUsers": false, "restartPolicy": "Never",
            "initContainers": [init], "containers": [main],
            "volumes": [{"name": "volume", "emptyDir": {}}],
        });
        mesh.create(&pod("links", spec.clone())).await;
        let has_failed = |pod: &Pod| mesh::phase(pod) == "Failed";
        mesh.wait("the pod to fail", "links", has_failed).await;
        let events = mesh.events("links").await;
        let why =
            "subPath out: \"out\" is a symbolic link, and a subPath must stay within its volume";
        assert!(events.iter().any(|event| event.contains(why)), "{events:?}");

        // Nor is anything made on the machine where a link leads there.
        let name = format!("lateen-test-{}", std::process::id());
        let mut spec = spec;
        spec["containers"][0]["args"] = json!(["-c", "true"]);
        spec["containers"][0]["volumeMounts"] = json!([
            {"name": "volume", "mountPath": "/volume"},
            {"name": "volume", "mountPath": format!("/volume/host/{name}"), "subPath": "good"},
        ]);
        mesh.create(&pod("planted", spec)).await;
        mesh.wait("the pod to end", "planted", |pod: &Pod| {
            matches!(mesh::phase(pod), "Failed" | "Succeeded")
        })
        .await;
        assert!(!std::path::Path::new("/var/tmp").join(&name).exists());
    });
}
