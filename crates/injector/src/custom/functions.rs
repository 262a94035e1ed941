//! Functions that injection templates have beside Go's and Sprig's.

use serde_json::{Map, Value, json};

use crate::{
    gotemplate::{Functions, text, to_yaml},
    template::PROXY,
    values::{items, name},
};

/// The functions; those of a name that Sprig has as well take its place.
pub(super) struct InjectionFunctions;

const NAMES: [&str; 25] = [
    "isset",
    "annotation",
    "valueOrDefault",
    "toJSON",
    "structToJSON",
    "protoToJSON",
    "toJsonMap",
    "fromJSON",
    "toYaml",
    "indent",
    "omitNil",
    "omit",
    "strdict",
    "mergeMaps",
    "toLower",
    "directory",
    "contains",
    "formatDuration",
    "applicationPorts",
    "includeInboundPorts",
    "excludeInboundPort",
    "kubevirtInterfaces",
    "excludeInterfaces",
    "appendMultusNetwork",
    "env",
];

type Outcome = Result<Value, String>;

impl Functions for InjectionFunctions {
    fn has(name: &str) -> bool {
        NAMES.contains(&name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Option<Outcome> {
        if !NAMES.contains(&name) {
            return None;
        }
        let done = match (name, args) {
            ("isset", [map, key]) => Ok(map.get(text(key)).is_some().into()),
            ("annotation", [meta, key, default]) => Ok(annotation(meta, key, default)),
            ("valueOrDefault", [value, default]) => {
                let is_unset = value.is_null() || value == "" || value == &json!(0);
                Ok(if is_unset { default } else { value }.clone())
            }
            ("toJSON" | "structToJSON" | "protoToJSON", [value]) => Ok(json_of(value)),
            ("toJsonMap", maps) => Ok(json_of(&merged(maps))),
            ("fromJSON", [of]) => {
                serde_json::from_str(&text(of)).map_err(|error| format!("not JSON: {error}"))
            }
            ("toYaml", [value]) => to_yaml(value).map(Value::from),
            ("indent", [by, of]) => Ok(indented(by, &text(of)).into()),
            ("omitNil", [Value::Object(map)]) => {
                let there = map.iter().filter(|(_, value)| !value.is_null());
                Ok(there
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect())
            }
            ("omit", [of, keys @ ..]) => {
                let keys: Vec<String> = keys.iter().map(text).collect();
                let entries = of.as_object().into_iter().flatten();
                let stay = entries.filter(|(key, _)| !keys.contains(key));
                Ok(stay
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect())
            }
            ("strdict", pairs) if pairs.len() % 2 == 0 => Ok(pairs
                .chunks(2)
                .map(|pair| (text(&pair[0]), json!(text(&pair[1]))))
                .collect()),
            ("mergeMaps", maps) => Ok(merged(maps)),
            ("toLower", [of]) => Ok(text(of).to_lowercase().into()),
            ("directory", [path]) => Ok(directory(&text(path)).into()),
            ("contains", [part, of]) => Ok(text(of).contains(&text(part)).into()),
            ("formatDuration", [duration]) => Ok(text(duration).into()),
            ("applicationPorts" | "includeInboundPorts", [containers]) => {
                Ok(ports(containers).into())
            }
            ("excludeInboundPort", [port, ports]) => {
                Ok(with_port(text(port).trim(), &text(ports)).into())
            }
            ("kubevirtInterfaces" | "excludeInterfaces", [interfaces]) => {
                let all = text(interfaces);
                let all: Vec<&str> = all.split(',').map(str::trim).collect();
                Ok(all.join(",").into())
            }
            ("appendMultusNetwork", [networks, network]) => {
                Ok(with_network(&text(networks), &text(network)).into())
            }
            ("env", [key, default]) => {
                let found = std::env::var(text(key)).ok();
                let found = found.filter(|value| !value.is_empty());
                Ok(found.map_or_else(|| default.clone(), Value::from))
            }
            (_, args) => Err(format!("does not take these {} arguments", args.len())),
        };
        Some(done)
    }
}

fn annotation(meta: &Value, key: &Value, default: &Value) -> Value {
    let own = meta["annotations"].get(text(key));
    // A default that is not set is an empty text, as it is in Go.
    let default = || match default {
        Value::Null => json!(""),
        default => text(default).into(),
    };
    own.cloned().unwrap_or_else(default)
}

/// A map that is not there is an empty one.
fn json_of(value: &Value) -> Value {
    match value {
        Value::Null => "{}".into(),
        value => value.to_string().into(),
    }
}

fn merged(maps: &[Value]) -> Value {
    let mut out = Map::new();
    for map in maps.iter().filter_map(Value::as_object) {
        let entries = map.iter().map(|(key, value)| (key.clone(), value.clone()));
        out.extend(entries);
    }
    out.into()
}

/// Unlike Sprig's, this leaves the first line where the template has it.
fn indented(by: &Value, of: &str) -> String {
    let by = by.as_u64().and_then(|by| usize::try_from(by).ok());
    let pad = format!("\n{}", " ".repeat(by.unwrap_or_default().min(1000)));
    of.split('\n').collect::<Vec<_>>().join(&pad)
}

/// With its last slash.
fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..=at])
}

/// Those of the application that are captured.
fn ports(containers: &Value) -> String {
    let containers = containers.as_array().into_iter().flatten();
    let of_application = containers.filter(|container| name(container) != PROXY);
    let ports = of_application.flat_map(|container| items(container, "ports"));
    let captured = ports.filter(|port| !["UDP", "SCTP"].iter().any(|udp| port["protocol"] == *udp));
    let ports: Vec<String> = captured.map(|port| text(&port["containerPort"])).collect();
    ports.join(",")
}

fn with_port(port: &str, ports: &str) -> String {
    let listed = ports.split(',').map(str::trim);
    let mut all: Vec<&str> = listed.filter(|port| !port.is_empty()).collect();
    if !["", "0"].contains(&port) && !all.contains(&port) {
        all.push(port);
    }
    all.join(",")
}

/// One more network, in the form that the others have: names with commas between, or JSON.
fn with_network(networks: &str, network: &str) -> String {
    let trimmed = networks.trim();
    if trimmed.is_empty() {
        return network.to_owned();
    }
    match serde_json::from_str(trimmed) {
        Ok(Value::Array(mut all)) => {
            all.push(json!({"name": network}));
            Value::Array(all).to_string()
        }
        _ => format!("{trimmed}, {network}"),
    }
}
