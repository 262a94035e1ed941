//! Ports of Services, whose names say what is spoken there.

use lateen_core::Protocol;

use super::{
    Code, Findings,
    index::Index,
    object::{is_of_system, list, text},
};

/// Names that say nothing.
pub(super) fn port_names<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("Service") {
        let root = &index.settings.root_namespace;
        let of_mesh = object.label("istio").is_some() || object.label("release") == Some("istio");
        let of_kubernetes = object.namespace != root && is_of_system(object.namespace, root);
        if of_mesh || of_kubernetes {
            continue;
        }
        let is_name = text(&object.spec()["type"]) == "ExternalName";
        for (n, port) in list(&object.spec()["ports"]).iter().enumerate() {
            let name = text(&port["name"]);
            let number = port["port"]
                .as_u64()
                .and_then(|number| u16::try_from(number).ok());
            let number = number.unwrap_or_default();
            let transport = text(&port["protocol"]);
            let protocol = Protocol::of_port(name, port["appProtocol"].as_str(), transport, number);
            let field = format!("spec.ports[{n}]");
            let target = match &port["targetPort"] {
                serde_json::Value::Null => number.to_string(),
                target => target
                    .as_str()
                    .map_or_else(|| target.to_string(), str::to_owned),
            };
            if is_name && matches!(protocol, Protocol::Unsupported | Protocol::Tcp) {
                let what = format!(
                    "port {number} ({name:?}) is that of another name and taken as TCP, which may keep \
                     requests from it; name it by its protocol, as in http or https"
                );
                findings.add(
                    object,
                    Code::ExternalNameServiceTypeInvalidPortName,
                    &field,
                    what,
                );
            } else if protocol == Protocol::Unsupported {
                let what = format!(
                    "Port name {name:?} (port: {number}, targetPort: {target}) doesn't follow the naming \
                     convention of the mesh: begin it with a protocol, as in http-{}, or set \
                     appProtocol",
                    if name.is_empty() { "web" } else { name }
                );
                findings.add(
                    object,
                    Code::PortNameIsNotUnderNamingConvention,
                    &field,
                    what,
                );
            }
        }
    }
}
