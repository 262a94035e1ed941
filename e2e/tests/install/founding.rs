//! The steps that an introduction to Istio leads through, with its commands, in a shell and in its order.
//!
//! Two things are not as in the page. The archives that it fetches are not fetched, the program lies where
//! they would leave it. And nobody sits at a terminal: `y` is typed in advance where `istioctl` asks.

use anyhow::ensure;
use lateen_e2e::{Desk, Mesh, eventually};

use super::{alone, block_on};

/// What `kubectl describe ns default` says in the page, before and after the label.
const DESCRIBED: &str = "\
Name:         default
Labels:       kubernetes.io/metadata.name=default
Annotations:  <none>
Status:       Active
No resource quota.
No LimitRange resource.";
const LABELLED: &str = "\
Name:         default
Labels:       istio-injection=enabled
              kubernetes.io/metadata.name=default
Annotations:  <none>
Status:       Active
No resource quota.
No LimitRange resource.";

#[test]
fn an_introductions_commands_do_what_it_says() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("founding")?;
    let kubectls = mesh.kubectls()?;
    ensure!(!kubectls.is_empty(), "this test takes kubectl");
    for (index, kubectl) in kubectls.iter().enumerate() {
        let desk = Desk::of(&mesh, kubectl, "istio-1.13.0")?;
        // What kubectl has no part in does not depend on which one is there.
        if index == 0 {
            install(&desk)?;
        }
        customise(&desk, index == 0)?;
        apply(&desk, &mesh)?;
        integrate(&desk)?;
        enable_injection(&desk)?;
        // The next reader finds the namespaces as they were: verifying looks at all that is beside the mesh,
        // and nobody has Kiali's image here.
        desk.bash("kubectl delete -f samples/addons/kiali.yaml")?;
        desk.bash("kubectl label ns default istio-injection-")?;
    }
    mesh.stop().map(drop)
}

fn install(desk: &Desk) -> anyhow::Result<()> {
    desk.bash("istio-1.13.0/bin/istioctl version --remote=false")?;
    let list = desk.bash("istioctl profile list")?;
    for profile in ["default", "demo", "minimal", "external", "empty", "preview"] {
        ensure!(list.lines().any(|line| line.trim() == profile), "{list}");
    }
    desk.answer("istioctl install --set profile=default", "y\n")?;
    let said = desk.answer("istioctl install --set profile=demo", "y\n")?;
    // "will remove the unnecessary components (or will add)": from this one to the other it adds.
    ensure!(said.contains("Egress gateway"), "{said}");
    Ok(())
}

fn customise(desk: &Desk, installs: bool) -> anyhow::Result<()> {
    desk.bash("istioctl profile dump demo > demo_settings.yaml")?;
    // "Custom modifications here".
    desk.bash(
        "grep -q 'accessLogFile: /dev/stdout' demo_settings.yaml && \
         sed -i 's,accessLogFile: /dev/stdout,accessLogFile: /dev/stderr,' demo_settings.yaml",
    )?;
    if installs {
        desk.answer("istioctl install -f demo_settings.yaml", "y\n")?;
    }
    Ok(())
}

/// Over the installation that runs, in one go: the page's complaints of a missing namespace and of
/// definitions that come too late do not hold here.
fn apply(desk: &Desk, mesh: &Mesh) -> anyhow::Result<()> {
    desk.bash("istioctl manifest generate -f demo_settings.yaml > all_istio_manifests.yaml")?;
    desk.bash("kubectl apply -f all_istio_manifests.yaml")?;
    block_on(async {
        for app in ["istiod", "istio-ingressgateway", "istio-egressgateway"] {
            mesh.wait_ready("istio-system", &format!("app={app}"), 1)
                .await?;
        }
        Ok(())
    })?;
    // What was applied opens the webhook that judges objects, and the control plane closes it again.
    let verified = eventually("the installation to be verified", async || {
        desk.bash("istioctl verify-install -f demo_settings.yaml")
    });
    let verified = block_on(verified)?;
    ensure!(verified.contains("verified successfully"), "{verified}");
    let file = desk.bash("kubectl get cm istio -n istio-system -o 'jsonpath={.data.mesh}'")?;
    ensure!(file.contains("accessLogFile: /dev/stderr"), "{file}");
    Ok(())
}

/// The page fetches the file from Istio's repository; the program writes its own. Whether its pod runs is
/// up to who has the image.
fn integrate(desk: &Desk) -> anyhow::Result<()> {
    desk.bash("istioctl manifest addon -o samples/addons")?;
    desk.bash("kubectl apply -f samples/addons/kiali.yaml")?;
    let there = desk.bash("kubectl get deployment,service kiali -n istio-system -o name")?;
    ensure!(there == "deployment.apps/kiali\nservice/kiali\n", "{there}");
    Ok(())
}

fn enable_injection(desk: &Desk) -> anyhow::Result<()> {
    let describe = |expect: &str| -> anyhow::Result<()> {
        let said = desk.bash("kubectl describe ns default")?;
        let lines = said
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        ensure!(lines == expect.lines().collect::<Vec<_>>(), "{said}");
        Ok(())
    };
    describe(DESCRIBED)?;
    desk.bash("kubectl label ns default istio-injection=enabled")?;
    describe(LABELLED)
}
