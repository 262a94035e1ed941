//! Tenants write their own namespaces and not the control plane's: what `kubectl` says to them.

use anyhow::{Context as _, ensure};
use lateen_e2e::{Kubectl, Mesh, eventually, mesh::text};

use super::{alone, block_on};

/// Where each `kubectl` writes what it may.
const SHOP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: prices}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: example.com/web}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
";

/// A kind that no role of the platform has: `kubectl` asks for no kind that it does not know.
const QUOTAS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: quotas, labels: {rbac.authorization.k8s.io/aggregate-to-view: 'true'}}
rules: [{apiGroups: [''], resources: [resourcequotas], verbs: [get]}]
";

/// A pod of a tenant in the mesh, which looks for a file of the machine.
const LOOKS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: looks}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: example.com/busybox
    command: [sh, -c, 'id -u; cat FILE; echo looked; sleep 1000']
";

#[test]
fn tenants_write_their_namespaces_and_no_others() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("tenants")?;
    let name = mesh.name.as_str();
    mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ann.kubeconfig");
    let path = file.to_str().context("a path")?;
    let add = |namespace: &str| {
        mesh.lateen(&[
            "cluster", "tenant", "add", name, "ann", namespace, "--file", path,
        ])
    };
    for (args, why) in [
        (
            add("istio-system")?,
            "namespace istio-system is the cluster's own or the mesh's",
        ),
        (
            add("kube-system")?,
            "namespace kube-system is the cluster's own",
        ),
        (add("default")?, "namespace default is the cluster's own"),
        (
            mesh.lateen(&["cluster", "tenant", "add", "nonesuch", "ann", "shop"])?,
            "no cluster nonesuch runs",
        ),
        (
            mesh.lateen(&["cluster", "tenant", "add", name, "Ann", "shop"])?,
            "at most 40 lower-case letters",
        ),
        (
            mesh.lateen(&["cluster", "tenant", "remove", name, "bob"])?,
            "has no tenant bob",
        ),
    ] {
        ensure!(
            !args.status.success() && text(&args).contains(why),
            "{}",
            text(&args)
        );
    }
    let added = add("shop")?;
    ensure!(
        added.status.success() && text(&added).contains("tenant ann may admin in shop"),
        "{}",
        text(&added)
    );
    for (admin, ann) in mesh.needed_kubectls()?.iter().zip(Kubectl::needed(&file)?) {
        writes_its_own(&ann)?;
        is_kept_out_of_the_rest(&ann)?;
        takes_on_nobody(admin, &ann)?;
        stays_off_the_machine(admin, &ann, path)?;
        // Whose a right is does not go by what its holder may write.
        ann.run(&[
            "label",
            "rolebinding",
            "lateen-tenant-ann",
            "lateen.io/tenant-",
        ])?;
    }
    let list = mesh.lateen_ok(&["cluster", "tenant", "list", name])?;
    ensure!(
        list.lines()
            .any(|line| line.split_whitespace().eq(["ann", "shop:admin"])),
        "{list}"
    );
    let admins = mesh.needed_kubectls()?;
    block_on(gets_what_is_added_to_its_role(
        &admins,
        &Kubectl::needed(&file)?,
    ))?;
    mesh.lateen_ok(&["cluster", "tenant", "remove", name, "ann"])?;
    for ann in Kubectl::needed(&file)? {
        // What was handed out is no good any more, and nobody is somebody without it.
        let said = ann.refused(&["get", "configmaps"], "")?;
        ensure!(
            said.contains("Unauthorized") || said.contains("must be logged in"),
            "{said}"
        );
    }
    mesh.stop().map(drop)
}

/// What `kubectl auth can-i` answers: `yes`, or `no` and a failure.
fn can(kubectl: &Kubectl, line: &str) -> anyhow::Result<bool> {
    let args: Vec<&str> = ["auth", "can-i"]
        .into_iter()
        .chain(line.split_whitespace())
        .collect();
    let output = kubectl.output(&args, None)?;
    let said = String::from_utf8_lossy(&output.stdout);
    match (output.status.success(), said.trim()) {
        (true, "yes") => Ok(true),
        (false, said) if said == "no" || said.starts_with("no ") => Ok(false),
        _ => anyhow::bail!("{line}: {}", text(&output)),
    }
}

fn writes_its_own(ann: &Kubectl) -> anyhow::Result<()> {
    for line in [
        "create deployments.apps",
        "delete pods",
        "create pods --subresource=exec",
        "create pods --subresource=portforward",
        "get secrets",
        "create virtualservices.networking.istio.io",
        "create rolebindings.rbac.authorization.k8s.io",
        "list pods -n shop",
    ] {
        ensure!(can(ann, line)?, "{line}");
    }
    let said = ann.feed(&["apply", "-f", "-"], SHOP)?;
    ensure!(
        said.contains("virtualservice.networking.istio.io/web created"),
        "{said}"
    );
    let binding = [
        "create",
        "rolebinding",
        "mate",
        "--clusterrole=edit",
        "--user=bob",
    ];
    ann.run(&binding)?;
    ann.feed(&["delete", "-f", "-"], SHOP)?;
    ann.run(&["delete", "rolebinding", "mate"]).map(drop)
}

fn is_kept_out_of_the_rest(ann: &Kubectl) -> anyhow::Result<()> {
    for line in [
        "create pods -n istio-system",
        "patch deployments.apps -n istio-system",
        "update configmaps -n istio-system",
        "get secrets -n istio-system",
        "get pods -n istio-system",
        "create pods -n default",
        "create pods --all-namespaces",
        "get nodes",
        "create namespaces",
        "create clusterroles.rbac.authorization.k8s.io",
        "create customresourcedefinitions.apiextensions.k8s.io",
        "* *",
        "impersonate users",
    ] {
        ensure!(!can(ann, line)?, "{line}");
    }
    let forbidden = |verb: &str, resource: &str, group: &str, place: &str| {
        format!(
            "User \"system:serviceaccount:lateen-tenants:ann\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
        )
    };
    let system = "in the namespace \"istio-system\"";
    for (line, expect) in [
        (
            "-n istio-system create configmap mine",
            forbidden("create", "configmaps", "", system),
        ),
        (
            "-n istio-system delete deployment istiod",
            forbidden("delete", "deployments", "apps", system),
        ),
        (
            "-n istio-system patch configmap istio -p {}",
            forbidden("get", "configmaps", "", system),
        ),
        (
            "-n istio-system scale deployment istiod --replicas=0",
            forbidden("get", "deployments", "apps", system),
        ),
        (
            "create namespace mine",
            forbidden("create", "namespaces", "", "at the cluster scope"),
        ),
        (
            "delete mutatingwebhookconfiguration istio-sidecar-injector",
            forbidden(
                "delete",
                "mutatingwebhookconfigurations",
                "admissionregistration.k8s.io",
                "at the cluster scope",
            ),
        ),
        (
            "create rolebinding more --clusterrole=cluster-admin --user=ann",
            "is attempting to grant RBAC permissions not currently held".to_owned(),
        ),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let said = ann.refused(&args, "")?;
        ensure!(
            said.contains("Forbidden") || said.contains("forbidden"),
            "{line}: {said}"
        );
        ensure!(said.contains(&expect), "{line}: {said}");
    }
    Ok(())
}

/// Pods are let in as far as they keep to themselves, those of the mesh among them.
fn stays_off_the_machine(admin: &Kubectl, ann: &Kubectl, file: &str) -> anyhow::Result<()> {
    for line in ["patch namespaces", "update namespaces", "delete namespaces"] {
        ensure!(!can(ann, line)?, "{line}");
    }
    let said = ann.refused(
        &[
            "label",
            "namespace",
            "shop",
            "pod-security.kubernetes.io/enforce-",
        ],
        "",
    )?;
    ensure!(
        said.contains("cannot patch resource \"namespaces\""),
        "{said}"
    );
    let with = |field: &str| format!("{LOOKS}  {field}\n");
    for (field, why) in [
        ("hostNetwork: true", "host namespaces (hostNetwork=true)"),
        (
            "volumes: [{name: machine, hostPath: {path: /}}]",
            "hostPath volumes (volume \"machine\")",
        ),
        (
            "initContainers: [{name: i, image: x, securityContext: {privileged: true}}]",
            "privileged (container \"i\" must not set securityContext.privileged=true)",
        ),
    ] {
        let said = ann.refused(&["create", "-f", "-"], &with(field))?;
        let why = format!("violates PodSecurity \"baseline:latest\": {why}");
        ensure!(
            said.contains("pods \"looks\" is forbidden") && said.contains(&why),
            "{said}"
        );
    }
    admin.run(&[
        "label",
        "namespace",
        "shop",
        "istio-injection=enabled",
        "--overwrite",
    ])?;
    ann.feed(&["create", "-f", "-"], &LOOKS.replace("FILE", file))?;
    ann.run(&[
        "wait",
        "--for=condition=Ready",
        "pod/looks",
        "--timeout=120s",
    ])?;
    let containers = ann.run(&[
        "get",
        "pod",
        "looks",
        "-o",
        "jsonpath={.spec.initContainers[*].name} {.spec.containers[*].name}",
    ])?;
    ensure!(
        containers.contains("istio-init") && containers.contains("istio-proxy"),
        "{containers}"
    );
    let said = ann.run(&["logs", "looks", "-c", "app"])?;
    ensure!(
        said.lines().any(|line| line == "0") && said.contains("looked") && !said.contains("token"),
        "{said}"
    );
    ann.run(&["delete", "pod", "looks"]).map(drop)
}

/// An administrator may look at the cluster as a tenant, and not the other way round.
fn takes_on_nobody(admin: &Kubectl, ann: &Kubectl) -> anyhow::Result<()> {
    let as_ann = "--as=system:serviceaccount:lateen-tenants:ann";
    ensure!(can(admin, "create pods -n istio-system")?);
    ensure!(!can(
        admin,
        &format!("create pods -n istio-system {as_ann}")
    )?);
    ensure!(can(admin, &format!("create pods -n shop {as_ann}"))?);
    for line in [
        "get pods -n istio-system --as=kubernetes-admin --as-group=system:masters",
        "get pods -n istio-system --as=system:serviceaccount:istio-system:istiod",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let said = ann.refused(&args, "")?;
        ensure!(said.contains("cannot impersonate resource"), "{said}");
    }
    Ok(())
}

async fn gets_what_is_added_to_its_role(
    admins: &[Kubectl],
    anns: &[Kubectl],
) -> anyhow::Result<()> {
    for (admin, ann) in admins.iter().zip(anns) {
        let asked = "get resourcequotas";
        ensure!(!can(ann, asked)?);
        admin.feed(&["apply", "-f", "-"], QUOTAS)?;
        eventually("the role to have the new rule", async || {
            ensure!(can(ann, asked)?);
            Ok(())
        })
        .await?;
        ensure!(!can(ann, "delete resourcequotas")?);
        admin.feed(&["delete", "-f", "-"], QUOTAS)?;
        eventually("the role to have lost it", async || {
            ensure!(!can(ann, asked)?);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
