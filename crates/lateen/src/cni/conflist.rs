//! A node's network, as container runtimes read it: one plugin, or a list of them.
//!
//! Source: the Container Network Interface specification, `Network configuration format`.

use serde_json::{Value, json};

/// The plugin, by the name of its program.
pub(super) const PLUGIN: &str = "istio-cni";

/// Whether a text is a network with plugins of others, rather than something else or this plugin alone.
pub(super) fn is_network(text: &str) -> bool {
    let Ok(network) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let is_single = network["type"].as_str().is_some_and(|kind| kind != PLUGIN);
    let plugins = network["plugins"].as_array();
    is_single || plugins.is_some_and(|all| !all.is_empty())
}

/// The network with the plugin behind all others, as a list. What is so already stays the same text.
pub(super) fn insert(text: &str, plugin: &Value) -> Result<String, serde_json::Error> {
    let mut network: Value = serde_json::from_str(text)?;
    if !network["plugins"].is_array() {
        network = listed(network);
    }
    let Some(plugins) = network["plugins"].as_array_mut() else {
        return Ok(text.to_owned());
    };
    let is_last = plugins.last() == Some(plugin);
    if is_last && plugins.iter().filter(|held| is_ours(held)).count() == 1 {
        return Ok(text.to_owned());
    }
    plugins.retain(|held| !is_ours(held));
    plugins.push(plugin.clone());
    Ok(format!("{network:#}\n"))
}

/// The network without the plugin; `None` where it is without it already, or is none.
pub(super) fn remove(text: &str) -> Option<String> {
    let mut network: Value = serde_json::from_str(text).ok()?;
    let plugins = network["plugins"].as_array_mut()?;
    let n_plugins = plugins.len();
    plugins.retain(|held| !is_ours(held));
    (plugins.len() < n_plugins).then(|| format!("{network:#}\n"))
}

/// A network of one plugin as a list, which has the version and the name in its stead.
fn listed(mut single: Value) -> Value {
    let mut list = json!({});
    if let Some(fields) = single.as_object_mut() {
        for field in ["cniVersion", "name"] {
            if let Some(value) = fields.shift_remove(field) {
                list[field] = value;
            }
        }
    }
    list["plugins"] = json!([single]);
    list
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == PLUGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(level: &str) -> Value {
        json!({"type": PLUGIN, "log_level": level})
    }

    fn read(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn the_plugin_is_the_last_one_once() {
        let before = r#"{"cniVersion": "0.3.1", "name": "k8s", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
        let once = insert(before, &plugin("a")).expect("a network");
        assert_eq!(insert(&once, &plugin("a")).expect("a network"), once);
        let changed = insert(&once, &plugin("b")).expect("a network");
        let want = json!([{"type": "bridge"}, {"type": "portmap"}, plugin("b")]);
        assert_eq!(read(&changed)["plugins"], want);
        let after = remove(&changed).expect("it was there");
        assert_eq!(read(&after), read(before));
        assert_eq!(remove(&after), None);
    }

    #[test]
    fn one_plugin_becomes_a_list() {
        let single = r#"{"cniVersion": "0.4.0", "name": "n", "type": "ptp", "ipam": {"type": "host-local"}}"#;
        let list = insert(single, &plugin("a")).expect("a network");
        assert_eq!(
            read(&list),
            json!({"cniVersion": "0.4.0", "name": "n", "plugins": [
                {"type": "ptp", "ipam": {"type": "host-local"}}, plugin("a"),
            ]})
        );
    }

    #[test]
    fn only_networks_of_others_are_networks() {
        for (text, want) in [
            (r#"{"type": "ptp"}"#, true),
            (r#"{"plugins": [{"type": "ptp"}]}"#, true),
            (r#"{"plugins": []}"#, false),
            (r#"{"type": "istio-cni"}"#, false),
            ("[]", false),
            ("{", false),
        ] {
            assert_eq!(is_network(text), want, "{text}");
        }
        assert!(insert("{", &plugin("a")).is_err());
    }
}
