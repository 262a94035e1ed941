//! A pod's volumes and the files that every container gets.
//!
//! All live on the platform's private tmpfs, so secrets never reach a disk. Files of ConfigMaps, Secrets and
//! tokens are replaced in place, by rename, when their source changes.

mod etc;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, Volume,
    VolumeProjection,
};
use kube::api::{Api, PostParams, ResourceExt};
use tracing::debug;

use super::Kubelet;
use super::env::{expand, pod_field, resource_field};
use super::pod::PodContext;
use crate::Error;
use crate::container::{Mount, users};
use crate::net::PodNet;
use etc::write_etc;

/// How often sources are looked at again.
const REFRESH: Duration = Duration::from_secs(20);
/// Life of a token for which the pod asks no other.
const TOKEN_SECONDS: i64 = 3607;

/// A pod's volumes on the platform's side.
pub(super) struct Volumes {
    etc: PathBuf,
    paths: HashMap<String, PathBuf>,
}

impl Volumes {
    /// Makes every volume of the pod.
    pub(super) async fn prepare(
        kubelet: &Kubelet,
        pod: &Pod,
        net: &PodNet,
        dir: &Path,
    ) -> Result<Self, Error> {
        let mut volumes = Self {
            etc: dir.join("etc"),
            paths: HashMap::new(),
        };
        write_etc(pod, net.ip, &volumes.etc)?;
        let filler = Filler {
            kubelet,
            pod,
            ip: net.ip.to_string(),
            owner: owner(net),
        };
        for volume in filler.volumes() {
            let path = filler.make(&volume, dir).await?;
            volumes.paths.insert(volume.name.clone(), path);
        }
        Ok(volumes)
    }

    /// What a container mounts.
    pub(super) fn mounts(
        &self,
        container: &Container,
        env: &[(String, String)],
    ) -> Result<Vec<Mount>, Error> {
        let file = |name: &str| Mount {
            source: self.etc.join(name),
            target: Path::new("/etc").join(name),
            ..Mount::default()
        };
        let mut mounts = vec![file("hosts"), file("hostname"), file("resolv.conf")];
        for mount in container.volume_mounts.iter().flatten() {
            let path = self
                .paths
                .get(&mount.name)
                .ok_or_else(|| Error::Container(format!("no volume {:?}", mount.name)))?;
            let sub = mount
                .sub_path_expr
                .as_deref()
                .map(|expr| expand(expr, env))
                .or_else(|| mount.sub_path.clone());
            let sub = sub.filter(|sub| !sub.is_empty());
            mounts.push(Mount {
                source: path.clone(),
                sub_path: sub.as_deref().map(sub_path).transpose()?,
                target: mount.mount_path.clone().into(),
                read_only: mount.read_only == Some(true),
            });
        }
        // An outer mount must not cover an inner one.
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }
}

/// Checks the path of a part of a volume.
fn sub_path(sub: &str) -> Result<PathBuf, Error> {
    if Path::new(sub)
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_)))
    {
        return Err(Error::Container(format!(
            "subPath {sub:?} must stay within its volume"
        )));
    }
    Ok(sub.into())
}

/// Keeps ConfigMaps, Secrets and tokens of a running pod as new as their sources.
pub(super) async fn keep_fresh(context: Arc<PodContext>) {
    let dir = context
        .kubelet
        .pod_dir(&context.pod.uid().unwrap_or_default());
    loop {
        tokio::time::sleep(REFRESH).await;
        let filler = Filler {
            kubelet: &context.kubelet,
            pod: &context.pod,
            ip: context.net.ip.to_string(),
            owner: owner(&context.net),
        };
        for volume in filler.volumes() {
            if volume.empty_dir.is_none()
                && volume.host_path.is_none()
                && let Err(error) = filler.make(&volume, &dir).await
            {
                debug!(volume = volume.name, %error, "a volume was not refreshed");
            }
        }
    }
}

/// Files of a volume by relative path, with their mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

struct Filler<'a> {
    kubelet: &'a Kubelet,
    pod: &'a Pod,
    ip: String,
    /// Whose the files are, if not the machine's root's.
    owner: Option<u32>,
}

/// The root of a pod that has users of its own.
fn owner(net: &PodNet) -> Option<u32> {
    net.namespaces.users.as_ref().map(|users| users.first)
}

fn give(owner: Option<u32>, path: &Path) -> Result<(), Error> {
    owner.map_or(Ok(()), |owner| users::give(owner, path))
}

impl Filler<'_> {
    fn volumes(&self) -> Vec<Volume> {
        self.pod
            .spec
            .clone()
            .unwrap_or_default()
            .volumes
            .unwrap_or_default()
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    async fn make(&self, volume: &Volume, dir: &Path) -> Result<PathBuf, Error> {
        if let Some(host) = &volume.host_path {
            return host_path(&host.path, host.type_.as_deref().unwrap_or_default());
        }
        let path = dir.join("volumes").join(&volume.name);
        fs::create_dir_all(&path).map_err(Error::io("create a volume"))?;
        if volume.empty_dir.is_some() {
            fs::set_permissions(&path, Permissions::from_mode(0o777))
                .map_err(Error::io("open a volume to all"))?;
            give(self.owner, &path)?;
            return Ok(path);
        }
        let files = self.files(volume, &path).await?;
        place(&path, files, self.owner)?;
        Ok(path)
    }

    async fn files(&self, volume: &Volume, path: &Path) -> Result<Files, Error> {
        if let Some(source) = &volume.config_map {
            let data = self
                .config_map(&source.name, source.optional == Some(true))
                .await?;
            return select(
                data,
                source.items.as_deref(),
                source.default_mode,
                &source.name,
            );
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.clone().unwrap_or_default();
            let data = self.secret(&name, source.optional == Some(true)).await?;
            return select(data, source.items.as_deref(), source.default_mode, &name);
        }
        if let Some(source) = &volume.downward_api {
            return self.downward(
                source.items.as_deref().unwrap_or_default(),
                mode(source.default_mode),
            );
        }
        if let Some(source) = &volume.projected {
            let mut files = Files::new();
            for projection in source.sources.iter().flatten() {
                files.extend(
                    self.projection(projection, source.default_mode, path)
                        .await?,
                );
            }
            return Ok(files);
        }
        Err(Error::Container(format!(
            "volume {:?}: its kind is not supported by this platform",
            volume.name
        )))
    }

    async fn projection(
        &self,
        source: &VolumeProjection,
        mode_: Option<i32>,
        path: &Path,
    ) -> Result<Files, Error> {
        if let Some(map) = &source.config_map {
            let data = self
                .config_map(&map.name, map.optional == Some(true))
                .await?;
            return select(data, map.items.as_deref(), mode_, &map.name);
        }
        if let Some(secret) = &source.secret {
            let data = self
                .secret(&secret.name, secret.optional == Some(true))
                .await?;
            return select(data, secret.items.as_deref(), mode_, &secret.name);
        }
        if let Some(downward) = &source.downward_api {
            return self.downward(downward.items.as_deref().unwrap_or_default(), mode(mode_));
        }
        let Some(token) = &source.service_account_token else {
            return Err(Error::Container(
                "this kind of projection is not supported by this platform".into(),
            ));
        };
        let seconds = token.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        if is_fresh(&path.join(&token.path), seconds) {
            return Ok(Files::new());
        }
        let value = self.token(token.audience.clone(), seconds).await?;
        Ok(Files::from([(
            token.path.clone(),
            (value.into_bytes(), mode(mode_)),
        )]))
    }

    async fn config_map(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let Some(map) = api.get_opt(name).await? else {
            return missing("configmap", name, optional);
        };
        let text = map
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.into_bytes()));
        let binary = map
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0));
        Ok(text.chain(binary).collect())
    }

    async fn secret(&self, name: &str, optional: bool) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let api: Api<Secret> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let Some(secret) = api.get_opt(name).await? else {
            return missing("secret", name, optional);
        };
        Ok(secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect())
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<Files, Error> {
        let mut files = Files::new();
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                pod_field(self.pod, field, Some(&self.ip))?
            } else if let Some(field) = &item.resource_field_ref {
                let spec = self.pod.spec.clone().unwrap_or_default();
                let named = |one: &&Container| Some(&one.name) == field.container_name.as_ref();
                let container = spec
                    .containers
                    .iter()
                    .find(named)
                    .cloned()
                    .unwrap_or_default();
                resource_field(&container, field)?
            } else {
                String::new()
            };
            files.insert(item.path.clone(), (value.into_bytes(), mode));
        }
        Ok(files)
    }

    async fn token(&self, audience: Option<String>, seconds: i64) -> Result<String, Error> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let account = spec
            .service_account_name
            .unwrap_or_else(|| "default".into());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|audience| vec![audience]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> =
            Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await?;
        answer
            .status
            .and_then(|status| status.token)
            .ok_or_else(|| Error::Container(format!("no token for serviceaccount {account:?}")))
    }
}

fn missing<T: Default>(kind: &str, name: &str, optional: bool) -> Result<T, Error> {
    if optional {
        Ok(T::default())
    } else {
        Err(Error::Container(format!("{kind} {name:?} not found")))
    }
}

fn host_path(path: &str, kind: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(path);
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path).map_err(Error::io("create a hostPath"))?,
        "FileOrCreate" if !path.exists() => {
            fs::write(&path, "").map_err(Error::io("create a hostPath"))?
        }
        _ if !path.exists() => {
            return Err(Error::Container(format!(
                "hostPath {} does not exist",
                path.display()
            )));
        }
        _ => {}
    }
    Ok(path)
}

fn mode(mode: Option<i32>) -> u32 {
    u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644)
}

fn select(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    name: &str,
) -> Result<Files, Error> {
    let Some(items) = items else {
        return Ok(data
            .into_iter()
            .map(|(key, value)| (key, (value, mode(default))))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.remove(&item.key) {
            Some(value) => files.insert(item.path.clone(), (value, mode(item.mode.or(default)))),
            None => {
                return Err(Error::Container(format!(
                    "references non-existent key {} in {name}",
                    item.key
                )));
            }
        };
    }
    Ok(files)
}

/// Writes what differs; what is no longer there stays until the pod ends.
fn place(dir: &Path, files: Files, owner: Option<u32>) -> Result<(), Error> {
    for (name, (bytes, mode)) in files {
        let path = dir.join(&name);
        if Path::new(&name)
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_)))
        {
            return Err(Error::Container(format!(
                "path {name:?} must stay within its volume"
            )));
        }
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create a volume"))?;
        }
        write_owned(&path, &bytes, mode, owner)?;
    }
    Ok(())
}

/// Whether a token has more than a fifth of its life ahead, as the kubelet has it.
fn is_fresh(path: &Path, seconds: i64) -> bool {
    let Some(written) = fs::metadata(path).and_then(|meta| meta.modified()).ok() else {
        return false;
    };
    let Ok(written) = Timestamp::try_from(written) else {
        return false;
    };
    let age = Timestamp::now().as_second() - written.as_second();
    age < seconds * 4 / 5
}

/// Replaces a file in one step.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    write_owned(path, bytes, mode, None)
}

/// The same for the root of a pod.
fn write_owned(path: &Path, bytes: &[u8], mode: u32, owner: Option<u32>) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let failed = || Error::io(format!("write {}", path.display()));
    let write = || {
        fs::write(&new, bytes)?;
        fs::set_permissions(&new, Permissions::from_mode(mode))
    };
    write().map_err(failed())?;
    give(owner, Path::new(&new))?;
    fs::rename(&new, path).map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_select_and_missing_keys_are_named() {
        let data = || {
            BTreeMap::from([
                ("a".to_owned(), b"1".to_vec()),
                ("b".to_owned(), b"2".to_vec()),
            ])
        };
        assert_eq!(select(data(), None, None, "m").unwrap().len(), 2);
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: "x/y".into(),
            mode: Some(0o600),
            ..KeyToPath::default()
        };
        let files = select(data(), Some(&[item("a")]), None, "m").unwrap();
        assert_eq!(files["x/y"], (b"1".to_vec(), 0o600));
        assert!(
            select(data(), Some(&[item("c")]), None, "m")
                .unwrap_err()
                .to_string()
                .contains("key c in m")
        );
    }

    #[test]
    fn files_are_placed_with_their_mode_and_never_outside() {
        let dir = tempfile::tempdir().unwrap();
        place(
            dir.path(),
            Files::from([("d/f".into(), (b"x".to_vec(), 0o640))]),
            None,
        )
        .unwrap();
        let meta = fs::metadata(dir.path().join("d/f")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o640);
        let outside = Files::from([("../f".into(), (vec![], 0o644))]);
        assert!(place(dir.path(), outside, None).is_err());
        assert!(sub_path("a/../../b").is_err());
    }
}
