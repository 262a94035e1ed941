//! Changes to the objects that come out, as `k8s.overlays` writes them.

use lateen_api::install::Overlay;
use serde_json::Value;

use crate::{InstallError, merge::merge, path};

/// Makes the changes to the objects that they name.
pub(crate) fn apply(overlays: &[Overlay], objects: &mut [Value]) -> Result<(), InstallError> {
    for overlay in overlays {
        let named = objects
            .iter_mut()
            .filter(|object| is_meant(overlay, object));
        let mut any = false;
        for object in named {
            any = true;
            for patch in &overlay.patches {
                change(object, &patch.path, patch.value.as_ref())
                    .map_err(|reason| refuse(overlay, &patch.path, reason))?;
            }
        }
        if !any {
            return Err(refuse(
                overlay,
                "",
                "the installation has no such object".into(),
            ));
        }
    }
    Ok(())
}

fn refuse(overlay: &Overlay, path: &str, reason: String) -> InstallError {
    InstallError::Overlay {
        kind: overlay.kind.clone(),
        name: overlay.name.clone(),
        path: path.to_owned(),
        reason,
    }
}

fn is_meant(overlay: &Overlay, object: &Value) -> bool {
    let version = overlay.api_version.as_deref().unwrap_or_default();
    object["kind"] == overlay.kind
        && (overlay.name.is_empty() || object["metadata"]["name"] == overlay.name)
        && (version.is_empty() || object["apiVersion"] == version)
}

/// Without a value, what is there goes. An object is merged into one that is there.
fn change(object: &mut Value, path: &str, value: Option<&Value>) -> Result<(), String> {
    let steps = path::parse(path)?;
    let Some(value) = value else {
        return match path::remove(object, &steps) {
            true => Ok(()),
            false => Err("there is nothing to take away".into()),
        };
    };
    let mut whole = value.clone();
    if value.is_object()
        && let Some(held) = path::get(object, &steps)
        && held.is_object()
    {
        whole = held.clone();
        merge(&mut whole, value);
    }
    path::set(object, &steps, whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overlay(patches: Value) -> Overlay {
        let overlay = json!({"kind": "Deployment", "name": "istiod", "patches": patches});
        serde_json::from_value(overlay).expect("an overlay")
    }

    fn apply_to(patches: Value) -> Result<Value, String> {
        let containers = json!([{"name": "discovery", "args": ["a", "b"]}]);
        let spec = json!({"template": {"spec": {"containers": containers, "x": {"y": 1}}}});
        let object = json!({"kind": "Deployment", "metadata": {"name": "istiod"}, "spec": spec});
        let mut objects = [object];
        apply(&[overlay(patches)], &mut objects).map_err(|error| error.to_string())?;
        Ok(objects[0]["spec"]["template"]["spec"].take())
    }

    #[test]
    fn objects_are_changed_where_paths_say() {
        let args = "spec.template.spec.containers.[name:discovery].args";
        let changed = apply_to(json!([
            {"path": format!("{args}.[1]"), "value": "c"},
            {"path": format!("{args}.[:a]")},
            {"path": "spec.template.spec.x", "value": {"z": 2}},
            {"path": "spec.template.spec.hostNetwork", "value": true},
        ]));
        let want = json!({
            "containers": [{"name": "discovery", "args": ["c"]}],
            "x": {"y": 1, "z": 2},
            "hostNetwork": true,
        });
        assert_eq!(changed, Ok(want));
    }

    #[test]
    fn changes_that_cannot_be_made_are_told() {
        let refused = |patches| apply_to(patches).expect_err("refused");
        assert_eq!(
            refused(json!([{"path": "spec.nothing"}])),
            "overlay of Deployment istiod, spec.nothing: there is nothing to take away"
        );
        let mut none: [Value; 0] = [];
        let error = apply(&[overlay(json!([]))], &mut none).expect_err("refused");
        assert!(error.to_string().contains("has no such object"), "{error}");
    }
}
