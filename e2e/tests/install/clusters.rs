//! Clusters for tenants: with one switch for the mesh, and addresses from their pool.

use anyhow::ensure;
use lateen_e2e::{Mesh, mesh::text};

use super::alone;

#[test]
fn a_tenants_cluster_has_the_mesh_by_one_switch() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::prepare("tenant")?;
    let name = mesh.name.as_str();
    let create = |more: &[&str]| mesh.lateen(&[&["cluster", "create", name], more].concat());
    let few = create(&["--istio", "--vip-pool", "10.10.99.140-10.10.99.141"])?;
    ensure!(
        !few.status.success() && text(&few).contains("has 2 addresses, and a cluster with Istio"),
        "{}",
        text(&few)
    );
    let made = create(&["--istio", "--vip-pool", "10.10.99.140-10.10.99.150"])?;
    let said = text(&made);
    let checked = (|| {
        ensure!(made.status.success(), "{said}");
        // The gateway has its address at once, one of the pool's.
        ensure!(said.contains("ingress      10.10.99.14"), "{said}");
        let list = mesh.lateen_ok(&["cluster", "list"])?;
        let row = list
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        let cells: Vec<&str> = row.split_whitespace().collect();
        ensure!(
            cells[1..4] == ["running", "yes", "10.10.99.140-10.10.99.150"],
            "{list}"
        );
        mesh.lateen_ok(&["-c", cells[5], "verify-install"])?;
        Ok(())
    })();
    let deleted = mesh.lateen_ok(&["cluster", "delete", name])?;
    checked?;
    ensure!(deleted.contains("is deleted"), "{deleted}");
    let again = mesh.lateen(&["cluster", "delete", name])?;
    ensure!(
        !again.status.success() && text(&again).contains("there is no cluster"),
        "{}",
        text(&again)
    );
    Ok(())
}
