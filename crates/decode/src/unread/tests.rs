//! Every field of every listed message is set, and what is decoded is compared.

mod resources;

use std::collections::BTreeMap;

use lateen_xds::{Any, TypeUrl, decode_any, json};
use prost_reflect::{Cardinality, FieldDescriptor, Kind as Type, MessageDescriptor};
use serde_json::{Value, json};

use super::*;

/// A field of a list. Some messages are read in two places, and differently.
type Field = (usize, u32);

fn field(reads: &'static Reads, number: u32) -> Field {
    (std::ptr::from_ref(reads).addr(), number)
}

/// What was found out of fields by setting them.
#[derive(Default)]
struct Found {
    /// How often a list was met.
    visited: BTreeMap<usize, usize>,
    /// Fields that changed what was decoded, with one way to do it.
    changed: BTreeMap<Field, String>,
}

#[test]
fn the_lists_say_what_is_read() {
    let mut found = Found::default();
    for resource in resources::all() {
        let reads = of_resource(&resource);
        let outcome = decoded(&resource);
        assert!(outcome.starts_with("Ok"), "{resource:#}: {outcome}");
        visit(&resource, &mut Vec::new(), reads, &mut found);
    }
    let mut faults = Vec::new();
    for reads in all_lists() {
        let message = descriptor(reads.message);
        if !found.visited.contains_key(&field(reads, 0).0) {
            faults.push(format!("{}: no resource of the test has it", reads.message));
        }
        for field in message.fields() {
            let known = reads.fields.iter().find(|known| known.0 == field.number());
            let changed = found.changed.get(&self::field(reads, field.number()));
            let is_read = known.is_some_and(|known| is_read(&known.2));
            let place = format!("{}.{}", reads.message, field.name());
            match (is_read, changed) {
                // That the message is there may mean something by itself.
                (false, Some(_)) if known.is_some_and(|known| matches!(known.2, Kind::In(_))) => {}
                (false, Some(how)) => {
                    faults.push(format!("{place} is read ({how}), but not listed"))
                }
                (true, None) => faults.push(format!("{place} is listed, but changes nothing")),
                _ => {}
            }
        }
        for (number, name, kind) in reads.fields {
            let plain = name.trim_end_matches("[]");
            let Some(field) = message.get_field(*number) else {
                faults.push(format!("{}.{name}: there is no {number}", reads.message));
                continue;
            };
            let repeated = field.is_list();
            if field.name() != plain || repeated != name.ends_with("[]") {
                faults.push(format!("{}.{name} is {}", reads.message, field.name()));
            }
            if let (Kind::In(inner), Type::Message(is)) = (kind, field.kind())
                && is.full_name() != inner.message
            {
                faults.push(format!("{}.{name} is a {}", reads.message, is.full_name()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn is_read(kind: &Kind) -> bool {
    match kind {
        Kind::Whole | Kind::Packed(_) | Kind::Map(_) | Kind::Words(_) => true,
        Kind::In(inner) => inner.fields.iter().any(|field| is_read(&field.2)),
        Kind::Harmless | Kind::Off => false,
    }
}

/// All lists that can be reached from resources.
fn all_lists() -> Vec<&'static Reads> {
    let mut all: Vec<&'static Reads> = Vec::new();
    let mut todo: Vec<&'static Reads> = RESOURCES.to_vec();
    while let Some(reads) = todo.pop() {
        if all.iter().any(|known| std::ptr::eq(*known, reads)) {
            continue;
        }
        all.push(reads);
        for (_, _, kind) in reads.fields {
            match kind {
                Kind::In(inner) => todo.push(inner),
                Kind::Packed(types) | Kind::Map(types) => todo.extend(types.read),
                Kind::Whole | Kind::Harmless | Kind::Off | Kind::Words(_) => {}
            }
        }
    }
    all
}

fn descriptor(message: &str) -> MessageDescriptor {
    json::descriptor(message).expect("a published message")
}

fn of_resource(resource: &Value) -> &'static Reads {
    let url = resource["@type"].as_str().expect("a type");
    let kind = TypeUrl::new(url);
    let reads = RESOURCES.iter().find(|r| r.message == kind.message());
    reads.expect("a resource")
}

/// What a resource decodes to, as text.
fn decoded(resource: &Value) -> String {
    match json::any_from_value(resource.clone()) {
        Ok(any) => outcome(&any),
        Err(error) => format!("unreadable: {error}"),
    }
}

fn outcome(any: &Any) -> String {
    use lateen_xds::types::{cluster, endpoint, listener, route, tls};
    let kind = TypeUrl::new(&any.type_url);
    if kind == TypeUrl::CLUSTER {
        let spec: cluster::Cluster = decode_any(any).expect("a cluster");
        format!("{:?}", crate::cluster(&spec))
    } else if kind == TypeUrl::LISTENER {
        let spec: listener::Listener = decode_any(any).expect("a listener");
        // The hash covers every field, read or not.
        let spec = crate::listener(&spec).map(|mut listener| {
            let chains = listener.chains.iter_mut();
            for chain in chains.chain(&mut listener.default_chain) {
                chain.hash = 0;
            }
            listener
        });
        format!("{spec:?}")
    } else if kind == TypeUrl::ROUTE {
        let spec: route::RouteConfiguration = decode_any(any).expect("routes");
        format!("{:?}", crate::route_configuration(&spec))
    } else if kind == TypeUrl::ENDPOINT {
        let spec: endpoint::ClusterLoadAssignment = decode_any(any).expect("endpoints");
        format!("{:?}", crate::assignment(&spec))
    } else {
        let spec: tls::Secret = decode_any(any).expect("a secret");
        format!("{:?}", crate::secret(&spec))
    }
}

/// One step down in JSON.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

fn at<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Index(index) => &mut value[*index],
    })
}

/// Places at which fields that are not listed are set, of each list.
const ENOUGH: usize = 3;

/// Sets every field of a message in a resource, and goes down into those that are listed.
fn visit(resource: &Value, path: &mut Vec<Step>, reads: &'static Reads, found: &mut Found) {
    let visits = found.visited.entry(field(reads, 0).0).or_default();
    *visits += 1;
    let is_old = *visits > ENOUGH;
    let here = at(&mut resource.clone(), path).clone();
    for field in descriptor(reads.message).fields() {
        let key = self::field(reads, field.number());
        let listed = reads.fields.iter().any(|known| known.0 == field.number());
        if !found.changed.contains_key(&key) && (listed || !is_old) {
            probe(resource, path, reads, &field, found);
        }
    }
    for (_, name, kind) in reads.fields {
        let name = name.trim_end_matches("[]");
        let Some(value) = here.get(name) else {
            continue;
        };
        path.push(Step::Key(name.to_owned()));
        match (kind, value) {
            (Kind::In(_) | Kind::Packed(_), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Index(index));
                    enter(resource, path, kind, item, found);
                    path.pop();
                }
            }
            (Kind::Map(_), Value::Object(entries)) => {
                for (key, item) in entries {
                    path.push(Step::Key(key.clone()));
                    enter(resource, path, kind, item, found);
                    path.pop();
                }
            }
            (kind, value) => enter(resource, path, kind, value, found),
        }
        path.pop();
    }
}

fn enter(
    resource: &Value,
    path: &mut Vec<Step>,
    kind: &'static Kind,
    value: &Value,
    found: &mut Found,
) {
    match kind {
        Kind::In(inner) => visit(resource, path, inner, found),
        Kind::Packed(types) | Kind::Map(types) => {
            let url = value["@type"].as_str().expect("a type");
            let message = TypeUrl::new(url).message().to_owned();
            if let Some(inner) = types.read.iter().find(|reads| reads.message == message) {
                visit(resource, path, inner, found);
            }
        }
        Kind::Whole | Kind::Harmless | Kind::Off | Kind::Words(_) => {}
    }
}

/// Sets one field to several values.
fn probe(
    resource: &Value,
    path: &[Step],
    reads: &'static Reads,
    field: &FieldDescriptor,
    found: &mut Found,
) {
    let key = self::field(reads, field.number());
    let mut before = resource.clone();
    let object = at(&mut before, path).as_object_mut().expect("a message");
    // Of fields that exclude each other, only this one may be there.
    if let Some(group) = field.containing_oneof() {
        for other in group.fields().filter(|other| other != field) {
            object.remove(other.name());
        }
    }
    let held = object.get(field.name()).cloned();
    let expect = decoded(&before);
    let depth = if reads.fields.iter().any(|known| known.0 == key.1) {
        2
    } else {
        1
    };
    let mut values = samples(field, depth);
    if let Some(Value::Array(items)) = &held {
        let longer = values.iter().filter_map(|value| {
            let more = value.as_array()?;
            Some(Value::Array(items.iter().chain(more).cloned().collect()))
        });
        values.extend(longer.collect::<Vec<_>>());
    }
    let absent = held.is_some().then_some(None);
    let tries = values.into_iter().map(Some).chain(absent);
    for value in tries {
        if found.changed.contains_key(&key) {
            return;
        }
        let mut changed = before.clone();
        let object = at(&mut changed, path).as_object_mut().expect("a message");
        let how = format!("{value:?}");
        match value {
            Some(value) => object.insert(field.name().to_owned(), value),
            None => object.remove(field.name()),
        };
        let outcome = decoded(&changed);
        // What is refused is read, too.
        let refused = outcome.starts_with("Err");
        if !outcome.starts_with("unreadable") && (refused || outcome != expect) {
            let end = outcome
                .char_indices()
                .nth(300)
                .map_or(outcome.len(), |(end, _)| end);
            found
                .changed
                .insert(key, format!("{how} gives {}", &outcome[..end]));
        }
    }
}

/// Values for a field, to some depth of messages.
fn samples(field: &FieldDescriptor, depth: usize) -> Vec<Value> {
    if field.is_map() {
        let Type::Message(entry) = field.kind() else {
            return Vec::new();
        };
        let values = entry.map_entry_value_field();
        let one = |value: Value| json!({ "x": value });
        return samples(&values, depth).into_iter().map(one).collect();
    }
    let values = single(&field.kind(), depth);
    match field.cardinality() {
        Cardinality::Repeated => values.into_iter().map(|value| json!([value])).collect(),
        _ => values,
    }
}

fn single(kind: &Type, depth: usize) -> Vec<Value> {
    match kind {
        Type::Bool => vec![json!(true), json!(false)],
        Type::Double | Type::Float => vec![json!(7.5)],
        Type::String => ["x", "10.0.0.1", "x.previous_hosts"]
            .map(Value::from)
            .to_vec(),
        Type::Bytes => vec![json!("eA==")],
        Type::Enum(kind) => kind.values().map(|value| json!(value.name())).collect(),
        Type::Message(message) => match message.full_name() {
            "google.protobuf.BoolValue" => vec![json!(true), json!(false)],
            "google.protobuf.UInt32Value" | "google.protobuf.UInt64Value" => {
                vec![json!(7), json!(0)]
            }
            "google.protobuf.Duration" => vec![json!("7s"), json!("0s")],
            "google.protobuf.Struct" => vec![json!({ "x": "y" })],
            "google.protobuf.Any" => vec![json!({ "@type": RAW })],
            _ if depth == 0 => vec![json!({})],
            _ => {
                let parts = message.fields().flat_map(|field| {
                    let values = samples(&field, depth - 1).into_iter();
                    let name = field.name().to_owned();
                    values.map(move |value| json!({ name.clone(): value }))
                });
                std::iter::once(json!({})).chain(parts).collect()
            }
        },
        _ => vec![json!(7), json!(1)],
    }
}

const RAW: &str = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

#[test]
fn what_is_not_read_is_named_by_its_path() {
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "r",
        "validate_clusters": false,
        "virtual_hosts": [{ "name": "h", "domains": ["*"], "rate_limits": [{}, {}], "routes": [
            { "match": { "prefix": "/" }, "route": { "cluster": "c" } },
            { "match": { "prefix": "/" }, "route": { "cluster": "c", "append_x_forwarded_host": true,
              "retry_policy": { "retry_on": "5xx,never" } },
              "typed_per_filter_config": { "f": { "@type": RAW } } },
        ]}],
    });
    let mut any = json::any_from_value(resource).expect("readable");
    let paths = |any: &Any| {
        let fields = unread(any).fields;
        let names = |message: &str, number| json::field_name(message, number);
        fields
            .iter()
            .map(|field| field.path(names))
            .collect::<Vec<_>>()
    };
    let found = paths(&any);
    let expect = vec![
        "virtual_hosts[0].rate_limits",
        "virtual_hosts[0].routes[1].route.append_x_forwarded_host",
        "virtual_hosts[0].routes[1].route.retry_policy.retry_on (\"never\")",
        "virtual_hosts[0].routes[1].typed_per_filter_config[\"f\"] \
         (envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer)",
    ];
    let (mut sorted, mut wanted) = (found.clone(), expect.clone());
    sorted.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    // In the filter of a filter, and a flag that nothing sets.
    let never = json!({ "response_flag_filter": { "flags": ["NR", "RLSE"] } });
    let filter = json!({ "or_filter": { "filters": [never] } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "local_reply_config": { "mappers": [{ "filter": filter }] } });
    let listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
        "filter_chains": [{ "filters": [{ "name": "h", "typed_config": manager }] }] });
    let listener = json::any_from_value(listener).expect("readable");
    let found = paths(&listener);
    let place = "filter.or_filter.filters[0].response_flag_filter.flags[1] (\"RLSE\")";
    assert!(found.len() == 1 && found[0].ends_with(place), "{found:?}");
    // A field of a later release, and bytes that end too early.
    any.value.extend([0xf8, 0x3f, 1]);
    assert!(paths(&any).contains(&"#1023".to_owned()));
    any.value.push(0x0a);
    assert!(paths(&any).contains(&"(malformed)".to_owned()));
}

#[test]
fn fields_are_named_up_to_a_bound() {
    let policies = (0..40).map(|_| json!({ "locality": {}, "proximity": 3 }));
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "c",
        "endpoints": policies.collect::<Vec<_>>(),
    });
    let any = json::any_from_value(resource).expect("readable");
    let unread = unread(&any);
    assert_eq!((unread.fields.len(), unread.more), (MOST, 8));
}
