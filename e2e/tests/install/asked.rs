//! What commands ask before they do anything, what they know later of what was installed, and what
//! they say to whoever may not, or means something else.

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{Api, api::DeleteParams};
use lateen_e2e::{Mesh, mesh::text};

use super::{alone, block_on};

const MINIMAL: [&str; 3] = ["install", "--set", "profile=minimal"];
const TENANT: &str = "system:serviceaccount:default:tenant";
/// Everything but taking away.
const ALMOST: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: almost}
rules:
- {apiGroups: ['*'], resources: ['*'], verbs: [get, list, create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: almost}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: almost}
subjects: [{kind: ServiceAccount, name: tenant, namespace: default}]
";

#[test]
fn nothing_is_done_without_a_yes_and_what_was_done_is_known() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("asked")?;
    block_on(async {
        a_tenant_is_told_every_right_that_lacks(&mesh).await?;
        only_a_yes_installs(&mesh).await?;
        the_profile_that_is_there_is_verified(&mesh)?;
        an_addon_is_applied_from_its_file(&mesh)?;
        a_revision_is_brought_back_as_it_was(&mesh).await?;
        a_revision_goes_with_its_tags(&mesh)
    })?;
    mesh.stop().map(drop)
}

/// Runs a command that must fail with status 1, and says with what words.
fn refused(mesh: &Mesh, args: &[&str]) -> anyhow::Result<String> {
    of_status_1(args, &mesh.lateen(args)?)
}

fn of_status_1(args: &[&str], output: &Output) -> anyhow::Result<String> {
    let said = text(output);
    ensure!(output.status.code() == Some(1), "{args:?}: {said}");
    Ok(said)
}

/// Runs a command and answers its question.
fn answered(mesh: &Mesh, args: &[&str], answer: &str) -> anyhow::Result<Output> {
    let mut command = Command::new(mesh.binary());
    let mut child = command
        .args(args)
        .env("XDG_STATE_HOME", mesh.state_folder())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("it was piped")?;
    stdin.write_all(answer.as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

async fn a_tenant_is_told_every_right_that_lacks(mesh: &Mesh) -> anyhow::Result<()> {
    let install = [&MINIMAL[..], &["-y", "--as", TENANT]].concat();
    let said = refused(mesh, &install)?;
    for right in [
        "create, get, patch, customresourcedefinitions.apiextensions.k8s.io",
        "list, horizontalpodautoscalers.autoscaling",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "deployments.apps in istio-system",
        "leases.coordination.k8s.io in istio-system",
        "list pods in istio-system",
        "--context",
    ] {
        let words: Vec<&str> = right.split(", ").collect();
        let is_told = said
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(is_told, "{right:?} is not in:\n{said}");
    }
    mesh.apply(ALMOST).await?;
    let said = refused(mesh, &install)?;
    ensure!(
        said.contains("delete leases.coordination.k8s.io in istio-system")
            && said.lines().filter(|line| line.starts_with("  ")).count() == 1,
        "{said}"
    );
    let precheck = refused(mesh, &["x", "precheck", "--as", TENANT])?;
    ensure!(precheck.contains("[IST0141]"), "{precheck}");
    Ok(())
}

async fn only_a_yes_installs(mesh: &Mesh) -> anyhow::Result<()> {
    let said = refused(mesh, &MINIMAL)?;
    ensure!(
        said.contains("nobody answered") && said.contains("-y"),
        "{said}"
    );
    let said = of_status_1(&MINIMAL, &answered(mesh, &MINIMAL, "n\n")?)?;
    ensure!(said.contains("cancelled"), "{said}");
    let namespaces: Api<Namespace> = Api::all(mesh.client().await?);
    ensure!(namespaces.get_opt("istio-system").await?.is_none());
    let installed = answered(mesh, &MINIMAL, "y\n")?;
    ensure!(installed.status.success(), "{}", text(&installed));
    Ok(())
}

fn the_profile_that_is_there_is_verified(mesh: &Mesh) -> anyhow::Result<()> {
    let said = mesh.lateen_ok(&["verify-install"])?;
    ensure!(
        said.contains("✔ ConfigMap istio-system/istio-installed-state checked")
            && !said.contains("ingressgateway"),
        "{said}"
    );
    // Flags count instead, and so does the advice.
    let said = refused(mesh, &["verify-install", "--set", "profile=default"])?;
    ensure!(
        said.contains("✘ Deployment istio-system/istio-ingressgateway: is not there")
            && said.contains("`lateen install --set profile=default`"),
        "{said}"
    );
    let said = refused(mesh, &["uninstall", "--purge", "--as", TENANT, "-y"])?;
    ensure!(
        said.contains("delete deployments.apps in istio-system"),
        "{said}"
    );
    Ok(())
}

/// As the introductions have it, with the file of a release.
fn an_addon_is_applied_from_its_file(mesh: &Mesh) -> anyhow::Result<()> {
    shell(
        mesh,
        "mkdir -p samples/addons
         lateen manifest addon kiali > samples/addons/kiali.yaml
         kubectl apply -f samples/addons/kiali.yaml
         kubectl get -n istio-system deployment/kiali service/kiali",
    )?;
    mesh.lateen_ok(&["uninstall", "--addon", "kiali", "-y"])
        .map(drop)
}

async fn a_revision_is_brought_back_as_it_was(mesh: &Mesh) -> anyhow::Result<()> {
    let canary = [
        "--set",
        "revision=canary",
        "--set",
        "values.pilot.autoscaleEnabled=false",
        "-y",
    ];
    mesh.lateen_ok(&[&MINIMAL[..], &canary].concat())?;
    mesh.lateen_ok(&["verify-install"])?;
    mesh.lateen_ok(&["verify-install", "--revision", "canary"])?;
    mesh.lateen_ok(&["uninstall", "--revision", "default", "-y"])?;
    let said = mesh.lateen_ok(&["verify-install"])?;
    ensure!(!said.contains("HorizontalPodAutoscaler"), "{said}");
    let services: Api<Service> = Api::namespaced(mesh.client().await?, "istio-system");
    services
        .delete("istiod-canary", &DeleteParams::default())
        .await?;
    let said = refused(mesh, &["verify-install"])?;
    ensure!(
        said.contains("✘ Service istio-system/istiod-canary: is not there"),
        "{said}"
    );
    let advice = said.rsplit('`').nth(1).context("a command")?;
    ensure!(advice.contains("istio-installed-state-canary"), "{said}");
    shell(mesh, advice)?;
    mesh.lateen_ok(&["verify-install"]).map(drop)
}

fn a_revision_goes_with_its_tags(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.lateen_ok(&["tag", "set", "prod", "--revision", "canary"])?;
    let uninstall = ["uninstall", "--revision", "canary"];
    let said = refused(mesh, &[&uninstall[..], &["-y"]].concat())?;
    ensure!(
        said.contains("is a tag") && said.contains("--force"),
        "{said}"
    );
    let forced = [&uninstall[..], &["--force"]].concat();
    let said = refused(mesh, &forced)?;
    ensure!(said.contains("nobody answered"), "{said}");
    let removed = answered(mesh, &forced, "yes\n")?;
    ensure!(removed.status.success(), "{}", text(&removed));
    let tags = mesh.lateen_ok(&["tag", "list"])?;
    ensure!(tags.contains("There are no revision tags"), "{tags}");
    Ok(())
}

/// Lines as people type them, in a folder of their own.
fn shell(mesh: &Mesh, script: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let kubectls = mesh.kubectls()?;
    let kubectl = kubectls.first().context("this step takes kubectl")?;
    symlink(mesh.binary(), folder.path().join("lateen"))?;
    if kubectl.program().is_absolute() {
        symlink(kubectl.program(), folder.path().join("kubectl"))?;
    }
    let others = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{others}", folder.path().display());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("KUBECONFIG", mesh.kubeconfig()?)
        .env("XDG_STATE_HOME", mesh.state_folder())
        .output()?;
    ensure!(output.status.success(), "{script}:\n{}", text(&output));
    Ok(())
}
