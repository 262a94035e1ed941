//! The WorkloadEntry of a workload that registers itself, as a document: what a group and a proxy
//! make of it, and what becomes of it when the proxy comes and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use lateen_api::networking::WorkloadEntry;
use lateen_api::{annotations, kinds, status};
use lateen_core::locality;
use lateen_xds::types::core::Node;
use lateen_xds::types::wkt::value;
use serde_json::{Map, Value, json};

use super::Refusal;
use super::health::Said;
use crate::proxy::Proxy;

/// The metadata field that names the group.
const GROUP: &str = "AUTO_REGISTER_GROUP";
/// The metadata field that names the network.
const NETWORK: &str = "NETWORK";
/// The longest name of an object.
const NAME_MAX: usize = 253;

/// What a proxy says of the workload that it stands for.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) group: String,
    pub(super) namespace: String,
    pub(super) account: String,
    name: String,
    address: String,
    network: String,
    locality: String,
    labels: BTreeMap<String, String>,
    /// Its agent checks its health.
    is_watched: bool,
}

impl Workload {
    /// `None` where the proxy asks for no registration.
    ///
    /// # Errors
    /// When it cannot be registered as what it says it is.
    pub(super) fn of(
        node: &Node,
        proxy: &Proxy,
        account: &str,
    ) -> Result<Option<Workload>, Refusal> {
        let text = |key: &str| proxy.metadata.get(key).cloned().unwrap_or_default();
        if !asks(proxy) {
            return Ok(None);
        }
        let (group, network) = (text(GROUP), text(NETWORK));
        // They become parts of names, and names become parts of the API server's paths.
        for (key, name) in [(GROUP, &group), (NETWORK, &network)] {
            if !name.is_empty() && !is_name(name) {
                return Err(Refusal::Malformed(format!("{key} {name:?} is no name")));
            }
        }
        if proxy.ip.is_loopback() || proxy.ip.is_unspecified() {
            let why = format!("nobody can reach a workload at {}", proxy.ip);
            return Err(Refusal::Malformed(why));
        }
        let address = proxy.ip.to_string();
        let mut labels = proxy.labels.0.clone();
        for name in locality::LABELS {
            // No label of an object has the slashes that it may have here, nor dots at its ends.
            let Some(place) = labels.remove(name) else {
                continue;
            };
            let place = place.replace('/', ".");
            let place = place.trim_matches('.');
            if !place.is_empty() {
                labels.insert(name.into(), place.into());
            }
        }
        Ok(Some(Workload {
            name: entry_name(&group, &address, &network),
            group,
            namespace: proxy.namespace.clone(),
            account: account.to_owned(),
            address,
            network,
            locality: place(node),
            labels,
            is_watched: is_watched(node),
        }))
    }

    /// Of the entry.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The entry that a group makes of it.
    ///
    /// # Errors
    /// When the group cannot be read, or is another account's.
    pub(super) fn entry(&self, group: &Value) -> Result<Value, Refusal> {
        let unreadable =
            |e: serde_json::Error| Refusal::Missing(format!("WorkloadGroup {}: {e}", self.group));
        let template = group["spec"].get("template").cloned().unwrap_or_default();
        let mut spec: WorkloadEntry = match template {
            Value::Null => WorkloadEntry::default(),
            template => serde_json::from_value(template).map_err(unreadable)?,
        };
        self.check_account(&spec.service_account)?;
        spec.service_account = self.account.clone();
        spec.address = self.address.clone();
        let of_group = |field: &str| texts(&group["spec"]["metadata"][field]);
        spec.labels.extend(of_group("labels"));
        spec.labels.extend(self.labels.clone());
        if !self.network.is_empty() {
            spec.network = self.network.clone();
        }
        if !self.locality.is_empty() {
            spec.locality = self.locality.clone();
        }
        let mut notes = of_group("annotations");
        notes.insert(
            annotations::AUTO_REGISTRATION_GROUP.to_owned(),
            self.group.clone(),
        );
        if self.is_watched {
            notes.insert(annotations::HEALTH_CHECKS.to_owned(), "true".to_owned());
        }
        let kind = &kinds::WORKLOAD_ENTRY;
        let version = kind.api_version();
        Ok(json!({
            "apiVersion": version,
            "kind": kind.kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": spec.labels,
                "annotations": notes,
                // So that it goes with its group.
                "ownerReferences": [{
                    "apiVersion": version,
                    "kind": kinds::WORKLOAD_GROUP.kind,
                    "name": self.group,
                    "uid": group["metadata"]["uid"],
                    "controller": true,
                }],
            },
            "spec": spec,
        }))
    }

    /// Whether an entry that is there is this workload's own.
    pub(super) fn check(&self, entry: &Value) -> Result<(), Refusal> {
        let group = note(entry, annotations::AUTO_REGISTRATION_GROUP);
        if group != Some(&self.group) {
            return Err(Refusal::Denied(format!(
                "WorkloadEntry {}/{} is there and was not registered by group {}",
                self.namespace, self.name, self.group
            )));
        }
        let account = entry["spec"]["serviceAccount"].as_str();
        self.check_account(account.unwrap_or_default())
    }

    /// Without an account, any of the namespace will do.
    fn check_account(&self, wanted: &str) -> Result<(), Refusal> {
        if wanted.is_empty() || wanted == self.account {
            return Ok(());
        }
        Err(Refusal::Denied(format!(
            "group {} is for service account {wanted:?}, not for {:?}",
            self.group, self.account
        )))
    }
}

/// Whether a proxy asks for a registration.
pub(super) fn asks(proxy: &Proxy) -> bool {
    proxy.metadata.contains_key(GROUP)
}

/// `GROUP-ADDRESS[-NETWORK]`. Of what is too long the end is kept, which tells workloads apart.
fn entry_name(group: &str, address: &str, network: &str) -> String {
    let mut name = format!("{group}-{}", address.replace(':', "-"));
    if !network.is_empty() {
        name = format!("{name}-{network}");
    }
    let over = name.len().saturating_sub(NAME_MAX);
    let name = name.split_off(over);
    // It may have been cut where a name must not begin.
    name.trim_start_matches(['-', '.']).to_owned()
}

/// A name that objects may have (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= NAME_MAX
        && text.split('.').all(|part| {
            part.starts_with(is_end)
                && part.ends_with(is_end)
                && part.chars().all(|c| is_end(c) || c == '-')
        })
}

fn place(node: &Node) -> String {
    let Some(at) = &node.locality else {
        return String::new();
    };
    let parts = [&at.region, &at.zone, &at.sub_zone];
    let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
    parts.join("/").trim_end_matches('/').to_owned()
}

/// Whether the proxy's own configuration has a probe.
fn is_watched(node: &Node) -> bool {
    let field = |of: &lateen_xds::types::wkt::Struct, key: &str| match &of.fields.get(key)?.kind {
        Some(value::Kind::StructValue(of)) => Some(of.clone()),
        _ => None,
    };
    let metadata = node.metadata.as_ref();
    let own = metadata.and_then(|metadata| field(metadata, "PROXY_CONFIG"));
    own.is_some_and(|own| field(&own, "readinessProbe").is_some())
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let fields = map.as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    fields.filter_map(text).collect()
}

/// An annotation.
pub(super) fn note<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry["metadata"]["annotations"].get(key)?.as_str()
}

fn time(entry: &Value, key: &str) -> Option<Timestamp> {
    note(entry, key)?.parse().ok()
}

/// A map of an entry's metadata.
fn map<'a>(entry: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let map = &mut entry["metadata"][field];
    if !map.is_object() {
        *map = json!({});
    }
    map.as_object_mut().expect("it was made one")
}

fn notes(entry: &mut Value) -> &mut Map<String, Value> {
    map(entry, "annotations")
}

/// Brings an entry up to date with what its group and its proxy make of it now. What others have
/// written beside that stays.
pub(super) fn renew(entry: &mut Value, new: &Value) {
    let own = texts(&entry["spec"]["labels"]);
    let fields = |field: &str| {
        new["metadata"][field]
            .as_object()
            .cloned()
            .into_iter()
            .flatten()
    };
    let labels = map(entry, "labels");
    labels.retain(|key, value| own.get(key).map(String::as_str) != value.as_str());
    labels.extend(fields("labels"));
    let notes = notes(entry);
    notes.remove(annotations::HEALTH_CHECKS);
    notes.extend(fields("annotations"));
    entry["metadata"]["ownerReferences"] = new["metadata"]["ownerReferences"].clone();
    entry["spec"] = new["spec"].clone();
}

/// When an entry is to say that its proxy came to a replica, which it did at `since` by the replica's
/// clock: as it says already, where that is the same replica and not longer ago than `fresh`. `None`
/// where it has been to another one since.
pub(super) fn arrival(
    entry: &Value,
    replica: &str,
    since: Timestamp,
    now: Timestamp,
    fresh: Duration,
) -> Option<Timestamp> {
    // When it went does not count: that was said by whoever had it before.
    let came = time(entry, annotations::CONNECTED_AT);
    if is_of(entry, replica) && came.is_some_and(|came| !is_over(came, since, fresh)) {
        return came;
    }
    let Some(came) = came.filter(|came| *came >= since) else {
        return Some(since);
    };
    // What has not been yet, a clock says that is ahead of this one.
    let after = || came.checked_add(Duration::from_millis(1)).ok();
    (came > now).then(after).flatten()
}

/// Makes a replica the one that the proxy is connected to.
pub(super) fn connect(entry: &mut Value, replica: &str, at: Timestamp) {
    let notes = notes(entry);
    notes.insert(annotations::WORKLOAD_CONTROLLER.to_owned(), replica.into());
    notes.insert(annotations::CONNECTED_AT.to_owned(), at.to_string().into());
    notes.remove(annotations::DISCONNECTED_AT);
}

/// Notes that the proxy went that came here at `since` the last time; whether the entry is to be written. It is not
/// where the proxy has come again, here or elsewhere.
pub(super) fn disconnect(
    entry: &mut Value,
    replica: &str,
    since: Timestamp,
    at: Timestamp,
) -> bool {
    let came = time(entry, annotations::CONNECTED_AT);
    if !is_of(entry, replica) || came.is_none_or(|came| came > since) {
        return false;
    }
    let notes = notes(entry);
    notes.remove(annotations::CONNECTED_AT);
    notes.insert(
        annotations::DISCONNECTED_AT.to_owned(),
        at.to_string().into(),
    );
    true
}

/// Whether the proxy was connected to this replica last.
pub(super) fn is_of(entry: &Value, replica: &str) -> bool {
    note(entry, annotations::WORKLOAD_CONTROLLER) == Some(replica)
}

/// Whether an entry with these annotations was registered by its workload, and that has been away for
/// longer than `grace`, or has been connected for longer than `connected_max`.
pub(super) fn is_left<'a>(
    note: impl Fn(&str) -> Option<&'a str>,
    now: Timestamp,
    grace: Duration,
    connected_max: Duration,
) -> bool {
    if note(annotations::AUTO_REGISTRATION_GROUP).is_none() {
        return false;
    }
    let time = |key: &str| -> Option<Timestamp> { note(key)?.parse().ok() };
    if let Some(at) = time(annotations::CONNECTED_AT) {
        return is_over(at, now, connected_max);
    }
    time(annotations::DISCONNECTED_AT).is_some_and(|at| is_over(at, now, grace))
}

/// Whether a time is as long ago as `most`.
pub(super) fn is_over(at: Timestamp, now: Timestamp, most: Duration) -> bool {
    Duration::try_from(now - at).is_ok_and(|gone| gone >= most)
}

/// Whether an entry says something of its workload's health that nobody looks at any more.
pub(super) fn is_told(entry: &Value) -> bool {
    healthy(entry, &Said::Nothing, Timestamp::UNIX_EPOCH).is_some()
}

/// The conditions of an entry with what its agent says of its health, or without it where nobody looks
/// at it any more; `None` where they are so already.
pub(super) fn healthy(entry: &Value, said: &Said, now: Timestamp) -> Option<Value> {
    let conditions = entry["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default();
    let at = conditions
        .iter()
        .position(|one| one["type"] == status::HEALTHY);
    let before = at.map(|at| conditions.remove(at));
    if note(entry, annotations::HEALTH_CHECKS).is_none() {
        return before.map(|_| Value::Array(conditions));
    }
    let (word, message) = match said {
        Said::Nothing => return None,
        Said::Well => ("True", ""),
        Said::Unwell(fault) => ("False", fault.as_str()),
    };
    let before = before.unwrap_or_default();
    let told = before["message"].as_str().unwrap_or_default();
    if before["status"] == word && told == message {
        return None;
    }
    let mut condition = json!({
        "type": status::HEALTHY,
        "status": word,
        "lastProbeTime": now,
        "lastTransitionTime": match before["status"] == word {
            true => before["lastTransitionTime"].clone(),
            false => json!(now),
        },
    });
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    conditions.push(condition);
    Some(Value::Array(conditions))
}

#[cfg(test)]
mod tests;
