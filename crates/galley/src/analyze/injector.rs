//! What the injector is configured with, as far as analysis needs to know.

use serde_json::Value;

use super::index::Index;

/// The injector's ConfigMap; with `-` and the revision for others than the default one.
const CONFIG_MAP: &str = "istio-sidecar-injector";

/// The values of a revision's injector; `None` where its ConfigMap is not among the objects.
pub(super) fn values(index: &Index<'_>, revision: &str) -> Option<Value> {
    let name = match revision {
        "" | "default" => CONFIG_MAP.to_owned(),
        revision => format!("{CONFIG_MAP}-{revision}"),
    };
    let map = index.find("ConfigMap", &index.settings.root_namespace, &name)?;
    serde_json::from_str(map.written.value["data"]["values"].as_str()?).ok()
}

/// The image that it gives to proxies.
pub(super) fn image(values: &Value) -> Option<String> {
    let global = &values["global"];
    let image = global["proxy"]["image"].as_str()?;
    if image.contains('/') {
        return Some(image.to_owned());
    }
    let tag = &global["tag"];
    let tag = tag.as_str().map_or_else(|| tag.to_string(), str::to_owned);
    Some(format!("{}/{image}:{tag}", global["hub"].as_str()?))
}
