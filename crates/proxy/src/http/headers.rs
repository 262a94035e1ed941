//! Changes to headers that the configuration asks for.

use lateen_http::Headers;
use lateen_route::{HeaderMutation, HeaderMutations, HeaderOption};
use lateen_telemetry::access_log::{Format, LogSource};

/// Changes a request's headers, the most specific settings first, as Envoy does by default. Host
/// and path are changed by rewrites, not here.
pub(crate) fn request(headers: &mut Headers, list: &[&HeaderMutations], source: &dyn LogSource) {
    for mutations in list {
        for name in &mutations.request_remove {
            headers.remove(name.as_str());
        }
        apply(headers, &mutations.request_add, source);
    }
}

/// Writes to the headers of a request of our own.
pub(crate) fn write(headers: &mut Headers, mutations: &HeaderMutations, source: &dyn LogSource) {
    apply(headers, &mutations.request_add, source);
}

/// Changes a response's headers.
pub(crate) fn response(headers: &mut Headers, list: &[&HeaderMutations], source: &dyn LogSource) {
    for mutations in list {
        for name in &mutations.response_remove {
            headers.remove(name.as_str());
        }
        apply(headers, &mutations.response_add, source);
    }
}

/// True where nothing is to be done.
pub(crate) fn is_idle(list: &[&HeaderMutations], response: bool) -> bool {
    list.iter().all(|mutations| {
        if response {
            mutations.response_add.is_empty() && mutations.response_remove.is_empty()
        } else {
            mutations.request_add.is_empty() && mutations.request_remove.is_empty()
        }
    })
}

fn apply(headers: &mut Headers, list: &[HeaderMutation], source: &dyn LogSource) {
    for mutation in list {
        let present = headers.contains(&mutation.name);
        let value = value(&mutation.value, source);
        // A value that is no header text is left out, as Envoy does.
        let _ = match mutation.option {
            HeaderOption::Append => headers.append(&mutation.name, value),
            HeaderOption::AddIfAbsent if present => Ok(()),
            HeaderOption::OverwriteIfPresent if !present => Ok(()),
            _ => headers.set(&mutation.name, value),
        };
    }
}

fn value(text: &str, source: &dyn LogSource) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = String::new();
    // The format was checked when the configuration was taken.
    if let Ok(format) = Format::parse(text) {
        format.write(source, "", &mut out);
    }
    out
}
