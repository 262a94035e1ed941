//! Each object by itself: what validation refuses and warns of, and rules that nothing comes to.

use lateen_api::kinds;

use super::{Code, Findings, index::Index, matches, object::text};
use crate::review;

/// Objects of the mesh's own kinds.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.all() {
        let value = &object.written.value;
        let Some(kind) = kinds::find(text(&value["apiVersion"]), object.kind) else {
            continue;
        };
        let (faults, warnings) = review(value);
        for fault in faults {
            let what = format!("Schema validation error: {fault}");
            findings.add(object, Code::SchemaValidationError, &fault.field, what);
        }
        for warning in warnings {
            let field = warning.split_once(": ").map_or("", |(field, _)| field);
            let field = if field.starts_with("spec") {
                field.to_owned()
            } else {
                String::new()
            };
            findings.add(
                object,
                Code::SchemaWarning,
                &field,
                format!("Schema validation warning: {warning}"),
            );
        }
        if kind.kind == "VirtualService" {
            matches::check(object, findings);
        }
    }
}
