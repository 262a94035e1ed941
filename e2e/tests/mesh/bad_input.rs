//! What a user gets who asks for what cannot be: every refusal says where, what, and what to do.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, api::DeleteParams};
use lateen_e2e::{Kubectl, Mesh, mesh::documents, mesh::text};
use serde_json::Value;

use super::shared;

const REVIEWS: &str = "route: [{destination: {host: reviews}}]";

fn virtual_service(spec: &str) -> String {
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad}\n";
    format!("{head}spec: {spec}\n")
}

/// What each kubectl says to a file, and whether it succeeded. It validates nothing itself, so that
/// these are the server's words.
fn kubectl_apply(mesh: &Mesh, yaml: &str) -> anyhow::Result<Vec<(bool, String)>> {
    let apply = |kubectl: &Kubectl| {
        let args = ["apply", "--validate=false", "-f", "-"];
        let output = kubectl.output(&args, Some(yaml))?;
        Ok((output.status.success(), text(&output)))
    };
    mesh.kubectls()?.iter().map(apply).collect()
}

fn tempfile_with(content: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), content)?;
    Ok(file)
}

/// The document is refused with these parts in the message, to the `kube` crate and to kubectl.
async fn refused(mesh: &Mesh, yaml: &str, parts: &[&str]) -> anyhow::Result<()> {
    let said = match mesh.apply(yaml).await {
        Err(error) => format!("{error:#}"),
        Ok(()) => {
            mesh.delete(yaml).await?;
            bail!("accepted:\n{yaml}");
        }
    };
    has(&said, parts)?;
    for (accepted, said) in kubectl_apply(mesh, yaml)? {
        ensure!(!accepted, "kubectl calls it applied: {said}");
        has(&said, parts)?;
    }
    Ok(())
}

fn has(said: &str, parts: &[&str]) -> anyhow::Result<()> {
    for part in parts {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    ensure!(said.len() < 2000, "{} bytes are not a message", said.len());
    Ok(())
}

pub(crate) async fn weights_of_zero_are_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let routes =
        "[{destination: {host: reviews}, weight: 0}, {destination: {host: ratings}, weight: 0}]";
    let yaml = virtual_service(&format!(
        "{{hosts: [reviews], http: [{{route: {routes}}}]}}"
    ));
    let parts = [
        "spec.http[0].route",
        "weight is 0",
        "give at least one destination a weight",
    ];
    refused(shared(mesh), &yaml, &parts).await?;
    let yaml = virtual_service("{hosts: [reviews], http: [{route: []}]}");
    refused(shared(mesh), &yaml, &["spec.http[0]", "route"]).await
}

pub(crate) async fn bad_and_huge_regexes_are_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let rule = |regex: &str| {
        let uri = format!("match: [{{uri: {{regex: '{regex}'}}}}]");
        virtual_service(&format!(
            "{{hosts: [reviews], http: [{{{uri}, {REVIEWS}}}]}}"
        ))
    };
    let field = "spec.http[0].match[0].uri.regex: invalid regex";
    let unclosed = [field, "unclosed character class", "write an RE2 expression"];
    refused(shared(mesh), &rule("[a"), &unclosed).await?;
    let explodes = [field, "size limit", "fewer repetitions"];
    refused(shared(mesh), &rule("(a{1000}){1000}"), &explodes).await?;
    let long = format!("{}[", "a|".repeat(50_000));
    refused(shared(mesh), &rule(&long), &unclosed).await
}

pub(crate) async fn an_unknown_gateway_is_warned_of(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let spec = format!("{{hosts: [bad.example.com], gateways: [nosuch], http: [{{{REVIEWS}}}]}}");
    let yaml = virtual_service(&spec);
    let document = documents(&yaml)?.remove(0);
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";
    let request = hyper::Request::post(path).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&document)?.into())?;
    let answer = mesh.client().await?.send(request).await?;
    let status = answer.status();
    let warning = answer.headers().get("warning").context("no warning")?;
    let parts = ["spec.gateways[0]", "no Gateway default/nosuch"];
    has(&String::from_utf8_lossy(warning.as_bytes()), &parts)?;
    ensure!(status == 201, "{status}");
    mesh.delete(&yaml).await?;
    for kubectl in mesh.kubectls()? {
        let output = kubectl.output(&["apply", "-f", "-"], Some(&yaml))?;
        let said = text(&output);
        ensure!(output.status.success(), "{said}");
        has(&said, &["Warning:", parts[0], parts[1]])?;
        // What is there already would be left as it is, without a word.
        mesh.delete(&yaml).await?;
    }
    mesh.delete(&yaml).await
}

pub(crate) async fn a_gateway_on_a_port_in_use_is_refused(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let gateway = |name: &str, protocol: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 31499, name: it, protocol: {protocol}}}, hosts: ['*']}}]
"
        )
    };
    let holder = gateway("holder", "HTTP");
    mesh.apply(&holder).await?;
    // The webhook's own view follows a moment after.
    let clash = gateway("clash", "TCP");
    let parts = [
        "spec.servers[0].port",
        "port 31499 is in use by Gateway default/holder for HTTP",
        "choose another port",
    ];
    let mut result = refused(mesh, &clash, &parts).await;
    for _ in 0..20 {
        if result.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        result = refused(mesh, &clash, &parts).await;
    }
    mesh.delete(&holder).await?;
    mesh.delete(&clash).await?;
    result
}

pub(crate) async fn shapes_that_do_not_fit_are_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let spec = format!("{{hosts: reviews, http: [{{{REVIEWS}}}]}}");
    let parts = ["spec.hosts", "must be of type array"];
    refused(mesh, &virtual_service(&spec), &parts).await?;
    let weight = "[{route: [{destination: {host: reviews}, weight: heavy}]}]";
    let spec = format!("{{hosts: [reviews], http: {weight}}}");
    let parts = ["spec.http[0].route[0].weight", "must be of type integer"];
    refused(mesh, &virtual_service(&spec), &parts).await?;
    let spec = format!("{{hosts: [reviews], htp: [{{{REVIEWS}}}]}}");
    refused(mesh, &virtual_service(&spec), &["htp", "unknown field"]).await
}

pub(crate) async fn malformed_documents_name_their_place(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let yaml = "apiVersion: v1\nkind: Pod\nspec:\n  containers: [\n";
    for (accepted, said) in kubectl_apply(mesh, yaml)? {
        ensure!(!accepted, "{said}");
        has(&said, &["line"])?;
    }
    let file = tempfile_with(yaml)?;
    let name = file.path().to_string_lossy().into_owned();
    let inject = mesh.lateen(&["kube-inject", "-f", &name])?;
    ensure!(!inject.status.success(), "malformed YAML was injected");
    has(&text(&inject), &[&name, "line"])?;
    let client = mesh.client().await?;
    for (media, body) in [
        (
            "application/json",
            "{\"kind\": \"ConfigMap\",\n \"metadata\": [",
        ),
        ("application/yaml", "kind: ConfigMap\nmetadata: [\n"),
    ] {
        let path = "/api/v1/namespaces/default/configmaps";
        let request = hyper::Request::post(path).header("content-type", media);
        let refused = client.request::<Value>(request.body(body.into())?).await;
        match refused {
            Err(kube::Error::Api(status)) if status.code == 400 => {
                has(&status.message, &["parse error", "line"])?;
            }
            other => bail!("expected 400, got {other:?}"),
        }
    }
    Ok(())
}

pub(crate) async fn an_object_of_4_mib_is_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(shared(mesh).client().await?);
    let mut large = ConfigMap::default();
    large.metadata.name = Some("large".to_owned());
    large.data = Some([("key".to_owned(), "x".repeat(4 << 20))].into());
    match maps.create(&Default::default(), &large).await {
        Err(kube::Error::Api(status)) if status.code == 413 => {
            has(&status.message, &["too large", "3145728 bytes"])?;
        }
        other => bail!("expected 413, got {other:?}"),
    }
    ensure!(maps.get_opt("large").await?.is_none(), "it is there");
    Ok(())
}

pub(crate) async fn a_tenant_may_not_delete_the_control_plane(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let tenant = tenant(mesh).await?;
    let namespaces: Api<Namespace> = Api::all(tenant.clone());
    let refused = namespaces
        .delete("istio-system", &DeleteParams::default())
        .await;
    forbidden(
        refused.map(drop),
        &["namespaces", "istio-system", "cannot delete"],
    )?;
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(tenant, "istio-system");
    let refused = deployments.delete("istiod", &DeleteParams::default()).await;
    forbidden(refused.map(drop), &["istiod", "cannot delete"])?;
    let (delete, every) = (DeleteParams::default(), Default::default());
    let all = deployments.delete_collection(&delete, &every);
    forbidden(
        all.await.map(drop),
        &["deployments", "cannot deletecollection"],
    )?;
    let admin: Api<Namespace> = Api::all(mesh.client().await?);
    let control_plane = admin.get("istio-system").await?;
    ensure!(
        control_plane.metadata.deletion_timestamp.is_none(),
        "it is going"
    );
    Ok(())
}

fn forbidden(answer: Result<(), kube::Error>, parts: &[&str]) -> anyhow::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            has(&status.message, parts)?;
            has(
                &status.message,
                &["system:serviceaccount:default:bad-tenant"],
            )
        }
        other => bail!("expected 403, got {other:?}"),
    }
}

/// A client with the rights of an administrator of namespace `default` and no other.
async fn tenant(mesh: &Mesh) -> anyhow::Result<kube::Client> {
    mesh.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: bad-tenant}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: bad-tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: bad-tenant, namespace: default}]
",
    )
    .await?;
    let token = super::tokens::of(mesh, "bad-tenant", &[]).await?;
    let mut file = kube::config::Kubeconfig::read_from(mesh.kubeconfig()?)?;
    for user in &mut file.auth_infos {
        let auth = serde_json::json!({ "token": token });
        user.auth_info = Some(serde_json::from_value(auth)?);
    }
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
