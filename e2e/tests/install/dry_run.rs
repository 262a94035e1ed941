//! What is generated, as an API server judges it that stores nothing of it.

use anyhow::ensure;
use lateen_e2e::{Desk, Mesh};

use super::{
    alone, block_on,
    profiles::{everything, settled},
};

/// Every kind of manifest, as the command that writes it.
const GENERATED: [&str; 10] = [
    "generate --set profile=demo",
    "generate",
    "generate --set profile=minimal",
    "generate --set profile=preview",
    "generate --set profile=remote --set values.global.remotePilotAddress=192.0.2.7 \
     --set values.istiodRemote.injectionURL=https://192.0.2.7:15017/inject",
    "generate --set profile=external --set values.global.remotePilotAddress=istiod.example.com \
     --set values.istiodRemote.injectionURL=https://istiod.example.com:15017/inject",
    "generate --revision canary",
    "generate --set profile=demo --set meshConfig.authPolicy=MUTUAL_TLS",
    "generate --set values.pilot.autoscaleMin=2 --set values.global.logging.level=default:debug",
    "addon prometheus grafana tracing kiali servicegraph",
];

#[test]
fn an_api_server_would_take_every_manifest() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("dryrun")?;
    let kubectls = mesh.kubectls()?;
    ensure!(!kubectls.is_empty(), "this test takes kubectl");
    for (index, kubectl) in kubectls.iter().enumerate() {
        let desk = Desk::of(&mesh, kubectl, "release")?;
        // What nothing is stored of cannot be in a namespace that is not there.
        if index == 0 {
            desk.bash("kubectl create namespace istio-system")?;
        }
        let before = block_on(async {
            let client = mesh.client().await?;
            settled(&client).await?;
            everything(&client).await
        })?;
        // Which kubectl asks makes no difference to each of them.
        let n_tried = if index == 0 { GENERATED.len() } else { 1 };
        for generated in &GENERATED[..n_tried] {
            desk.bash(&format!("istioctl manifest {generated} > all.yaml"))?;
            let said = desk.bash("kubectl apply --dry-run=server -f all.yaml")?;
            let lines: Vec<_> = said
                .lines()
                .filter(|line| !line.starts_with("Warning"))
                .collect();
            ensure!(
                lines.len() > 3 && lines.iter().all(|line| line.ends_with("(server dry run)")),
                "{generated}: {said}"
            );
        }
        let after = block_on(async { everything(&mesh.client().await?).await })?;
        let stored: Vec<_> = after.difference(&before).collect();
        ensure!(stored.is_empty(), "{stored:#?}");
    }
    mesh.stop().map(drop)
}
