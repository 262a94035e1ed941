//! `lateen create`, `replace`, `get` and `delete`: the mesh's objects as `istioctl` 1.0 kept them. Today
//! `kubectl` does the same; these say more of what is wrong.

mod short;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PostParams},
};
use lateen_api::kinds::{self, Kind};
use lateen_registry::{Written, resource};
use serde_json::Value;

use super::{
    analyze::documents,
    kinds::{api, dashed, find},
    manifest::yaml,
};
use crate::{cli::Global, client, failures::Failures, output};

/// The files that objects are read from.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file, a directory, or `-` for standard input.
    #[arg(short, long, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
}

/// Create objects of the mesh from files; those that are there already are an error.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen create -f virtual-service-all-v1.yaml")]
pub(crate) struct Create {
    #[command(flatten)]
    files: Files,
}

/// Replace objects of the mesh by those of files; those that are not there are an error.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen replace -f virtual-service-reviews-v3.yaml")]
pub(crate) struct Replace {
    #[command(flatten)]
    files: Files,
}

/// Show objects of the mesh.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen get virtualservices\n  lateen get virtual-service reviews -o yaml\n  lateen get all -A"
)]
pub(crate) struct Get {
    /// The kind, such as `virtualservices` or `vs`; `all` for all kinds.
    kind: String,
    /// The name of one object.
    name: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Delete objects of the mesh, by name or as files name them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen delete virtualservice reviews\n  lateen delete vs reviews ratings -n shop\n  lateen delete -f virtual-service-all-v1.yaml"
)]
pub(crate) struct Delete {
    /// The kind, such as `virtualservice` or `vs`.
    #[arg(required_unless_present = "file", requires = "names")]
    kind: Option<String>,
    /// The names of the objects.
    names: Vec<String>,
    /// A file, a directory, or `-` for standard input, with objects to delete.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["kind", "names"])]
    file: Vec<PathBuf>,
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns.
    #[default]
    Short,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// An object of a file.
struct Named {
    kind: &'static Kind,
    namespace: String,
    name: String,
    value: Value,
}

impl Named {
    /// `virtual-service/default/reviews`.
    fn path(&self) -> String {
        format!("{}/{}/{}", dashed(self.kind), self.namespace, self.name)
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        api(client, self.kind, &self.namespace)
    }

    fn object(&self) -> anyhow::Result<DynamicObject> {
        let object = serde_json::from_value(self.value.clone());
        object.with_context(|| format!("{} cannot be read", self.path()))
    }
}

impl Create {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let objects = read(&self.files.file, global)?;
        let client = client::connect(global).await?;
        each(objects, async |named: &Named| named.create(&client).await).await
    }
}

impl Replace {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let objects = read(&self.files.file, global)?;
        let client = client::connect(global).await?;
        each(objects, async |named: &Named| named.replace(&client).await).await
    }
}

impl Delete {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let objects = match &self.kind {
            None => read(&self.file, global)?,
            Some(kind) => {
                let kind = known(kind)?;
                let named = self.names.iter().map(|name| Named {
                    kind,
                    namespace: global.namespace.clone(),
                    name: name.clone(),
                    value: Value::Null,
                });
                named.collect()
            }
        };
        let client = client::connect(global).await?;
        each(objects, async |named: &Named| named.delete(&client).await).await
    }
}

/// Does the same with every object, and says what became of each. One that fails does not keep the
/// others from it.
async fn each(
    objects: Vec<Named>,
    act: impl AsyncFn(&Named) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for named in &objects {
        if let Some(told) = failures.note(act(named).await) {
            output::line(told);
        }
    }
    failures.end()
}

impl Named {
    async fn create(&self, client: &Client) -> anyhow::Result<String> {
        let (api, object, path) = (self.api(client), self.object()?, self.path());
        let made = match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                bail!("{path} is there already; use `lateen replace`")
            }
            made => made.with_context(|| format!("cannot create {path}"))?,
        };
        let revision = made.metadata.resource_version.unwrap_or_default();
        Ok(format!("Created config {path} at revision {revision}"))
    }

    async fn replace(&self, client: &Client) -> anyhow::Result<String> {
        let (api, path) = (self.api(client), self.path());
        let there = api.get_opt(&self.name).await;
        let there = there.with_context(|| format!("cannot read {path}"))?;
        let Some(there) = there else {
            bail!("{path} is not there; use `lateen create`");
        };
        let mut object = self.object()?;
        if object.metadata.resource_version.is_none() {
            object.metadata.resource_version = there.metadata.resource_version;
        }
        let made = api
            .replace(&self.name, &PostParams::default(), &object)
            .await;
        let made = made.with_context(|| format!("cannot replace {path}"))?;
        let revision = made.metadata.resource_version.unwrap_or_default();
        Ok(format!("Updated config {path} to revision {revision}"))
    }

    async fn delete(&self, client: &Client) -> anyhow::Result<String> {
        let (api, path) = (self.api(client), self.path());
        match api.delete(&self.name, &DeleteParams::default()).await {
            Ok(_) => Ok(format!("Deleted config: {path}")),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let kind = self.kind.plural;
                bail!("{path} is not there; `lateen get {kind} -A` lists those that are");
            }
            Err(error) => Err(error).with_context(|| format!("cannot delete {path}")),
        }
    }
}

impl Get {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        const ALL: &[Kind] = &kinds::ALL;
        let wanted: Vec<&Kind> = match (self.kind.as_str(), &self.name) {
            ("all", Some(_)) => bail!("`all` has no names; name the kind as well"),
            ("all", None) => ALL.iter().collect(),
            (kind, _) => vec![known(kind)?],
        };
        let client = client::connect(global).await?;
        let mut found = Vec::new();
        let mut failures = Failures::default();
        for kind in wanted {
            let objects = failures.note(self.of(&client, kind, global).await);
            if let Some(objects) = objects.filter(|objects| !objects.is_empty()) {
                found.push((kind, objects));
            }
        }
        // That there are none is not known of what could not be read.
        if !found.is_empty() || failures.is_empty() {
            self.show(found)?;
        }
        failures.end()
    }

    fn show(&self, found: Vec<(&Kind, Vec<DynamicObject>)>) -> anyhow::Result<()> {
        if found.is_empty() {
            output::line("No resources found.");
            return Ok(());
        }
        let values = |found: Vec<(&Kind, Vec<DynamicObject>)>| {
            let all = found.into_iter().flat_map(|(_, objects)| objects);
            all.map(serde_json::to_value)
                .collect::<Result<Vec<Value>, _>>()
        };
        match self.output {
            Format::Short => {
                for (kind, objects) in &found {
                    output::print(short::table(kind, objects, jiff::Timestamp::now()));
                }
            }
            Format::Yaml => output::print(yaml(&values(found)?)?),
            Format::Json => {
                let items = values(found)?;
                let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
                output::line(serde_json::to_string_pretty(&list)?);
            }
        }
        Ok(())
    }

    async fn of(
        &self,
        client: &Client,
        kind: &Kind,
        global: &Global,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let resource = resource(kind);
        let of_namespace = api(client, kind, &global.namespace);
        if let Some(name) = &self.name {
            let found = of_namespace.get_opt(name).await;
            let found = found.with_context(|| format!("cannot read {} {name}", kind.kind))?;
            return Ok(found.into_iter().collect());
        }
        let api = match self.all_namespaces {
            true => Api::all_with(client.clone(), &resource),
            false => of_namespace,
        };
        let found = client::list(&api, &resource).await;
        found.with_context(|| format!("cannot list {}", kind.plural))
    }
}

fn known(text: &str) -> anyhow::Result<&'static Kind> {
    find(text).with_context(|| {
        let all: Vec<_> = kinds::ALL.iter().map(|kind| kind.singular).collect();
        let all = all.join(", ");
        format!("{text:?} is no kind of the mesh: there are {all}; for others use kubectl")
    })
}

/// The objects of files. All are looked at before anything is done with one.
fn read(files: &[PathBuf], global: &Global) -> anyhow::Result<Vec<Named>> {
    let mut objects = Vec::new();
    let mut faults = Vec::new();
    for text in documents(files, false)? {
        let (written, unreadable) = Written::read(&text);
        faults.extend(unreadable);
        for document in written {
            match named(&document, global) {
                Ok(named) => objects.push(named),
                Err(fault) => {
                    let place = document.place("").unwrap_or_default();
                    faults.push(format!("{place}: {fault}"));
                }
            }
        }
    }
    match faults.is_empty() {
        true if objects.is_empty() => bail!("there is no object in these files"),
        true => Ok(objects),
        false => bail!("{}", faults.join("\n")),
    }
}

fn named(document: &Written, global: &Global) -> Result<Named, String> {
    let value = &document.value;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
    let found = kinds::find(&api_version, &kind);
    let kind = found.ok_or_else(|| {
        format!("{kind:?} of {api_version:?} is no kind of the mesh; use kubectl for it")
    })?;
    let meta = &value["metadata"];
    let name = text(&meta["name"]);
    if name.is_empty() {
        return Err(format!("{} has no metadata.name; write one", kind.kind));
    }
    let namespace = match &meta["namespace"] {
        Value::Null => global.namespace.clone(),
        Value::String(namespace) => namespace.clone(),
        // YAML reads `n` and `yes` as no texts.
        other => {
            return Err(format!(
                "metadata.namespace {other} is no text; write it in quotes"
            ));
        }
    };
    let mut value = value.clone();
    value["metadata"]["namespace"] = namespace.clone().into();
    // All versions of a kind are of one shape, and the API server takes the one that it is asked in.
    value["apiVersion"] = kind.api_version().into();
    Ok(Named {
        kind,
        namespace,
        name,
        value,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn global() -> Global {
        let cli = Cli::try_parse_from(["lateen", "options", "-n", "shop"]);
        cli.expect("flags").global.settled()
    }

    #[tokio::test]
    async fn one_that_fails_does_not_keep_the_others_from_it() {
        let named = ["a", "b", "c"].map(|name| Named {
            kind: &kinds::GATEWAY,
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            value: Value::Null,
        });
        let asked = std::cell::RefCell::new(Vec::new());
        let done = each(named.into(), async |named: &Named| {
            asked.borrow_mut().push(named.name.clone());
            match named.name.as_str() {
                "b" => Ok(String::new()),
                name => bail!("{name} is refused"),
            }
        });
        let told = done.await.expect_err("two failed").to_string();
        assert_eq!(*asked.borrow(), ["a", "b", "c"]);
        assert_eq!(told, "2 failures:\n  a is refused\n  c is refused");
    }

    #[test]
    fn files_are_read_as_a_whole_before_anything_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |text: &str, expect: Result<&[&str], &str>| {
            let path = folder.path().join("f.yaml");
            std::fs::write(&path, text).expect("written");
            match (read(&[path], &global()), expect) {
                (Ok(objects), Ok(expect)) => {
                    let asked_in =
                        |named: &Named| named.value["apiVersion"] == named.kind.api_version();
                    assert!(objects.iter().all(asked_in), "{text}");
                    let paths: Vec<String> = objects.iter().map(Named::path).collect();
                    assert_eq!(paths, expect);
                }
                (Err(error), Err(expect)) => {
                    let told = error.to_string();
                    assert!(told.contains(expect), "{told}");
                }
                (result, _) => panic!("{text}: {:?}", result.map(|all| all.len())),
            }
        };
        let api = "apiVersion: networking.istio.io/v1alpha3\n";
        let own = format!("{api}kind: VirtualService\nmetadata: {{name: a}}\n");
        let placed =
            format!("{api}kind: DestinationRule\nmetadata: {{name: b, namespace: other}}\n");
        check(
            &format!("{own}---\n{placed}"),
            Ok(&["virtual-service/shop/a", "destination-rule/other/b"]),
        );
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
        check(
            &format!("{own}---\n{pod}"),
            Err("f.yaml:5: \"Pod\" of \"v1\" is no kind"),
        );
        let nameless = format!("{api}kind: Gateway\n");
        check(&nameless, Err("f.yaml:1: Gateway has no metadata.name"));
        check("", Err("no object"));
        let odd = format!("{api}kind: Gateway\nmetadata: {{name: a, namespace: n}}\n");
        check(&odd, Err("metadata.namespace false is no text"));
    }
}
