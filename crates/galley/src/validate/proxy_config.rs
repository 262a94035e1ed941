//! ProxyConfig: selector, threads, environment and image.

use lateen_api::{Object, networking::ProxyConfig};

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<ProxyConfig>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    if let Some(selector) = &spec.selector {
        let at = root.field("selector");
        common::selector(&selector.match_labels, &at.field("matchLabels"), faults);
    }
    if spec.concurrency.is_some_and(|threads| threads < 0) {
        faults.add(
            &root.field("concurrency"),
            "must not be negative",
            "write a number of threads, or zero for all cores",
        );
    }
    let variables = root.field("environmentVariables");
    for name in spec.environment_variables.keys() {
        if !is_variable(name) {
            faults.add(
                &variables.key(name),
                format!("{name:?} is not the name of a variable"),
                "use letters, digits, -, _ and ., with no digit in front",
            );
        }
    }
    if let Some(image) = &spec.image {
        let tag = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !image.image_type.chars().all(tag) {
            faults.add(
                &root.field("image").field("imageType"),
                format!("{:?} cannot be part of an image's tag", image.image_type),
                "use default, debug or distroless",
            );
        }
    }
}

fn is_variable(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(inner) && !name.starts_with(|c: char| c.is_ascii_digit())
}
