//! Protobuf's JSON form of Envoy's messages: bootstraps in, config dumps out.
//!
//! It works by reflection over a descriptor set made when this crate is built, so that an `Any`
//! of every published Envoy extension is read and written as its own fields.

use std::sync::{PoisonError, RwLock};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::Value;

use crate::{Any, Error, TypeUrl};

/// The descriptors, once somebody asked for one. Tens of megabytes are in them when they are built.
static POOL: RwLock<Option<DescriptorPool>> = RwLock::new(None);

fn pool() -> DescriptorPool {
    if let Some(pool) = &*POOL.read().unwrap_or_else(PoisonError::into_inner) {
        return pool.clone();
    }
    let mut slot = POOL.write().unwrap_or_else(PoisonError::into_inner);
    slot.get_or_insert_with(|| {
        let set = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin")).as_slice();
        DescriptorPool::decode(set).expect("the build made a consistent descriptor set")
    })
    .clone()
}

/// Gives up what reflection needs, until it is needed again. For a data plane, which reads its
/// bootstrap and then writes a dump once in a while; a control plane asks at its
/// first push what the types are, and keeps it.
pub fn release() {
    let pool = POOL.write().unwrap_or_else(PoisonError::into_inner).take();
    // The lock is not held while tens of thousands of pieces are freed.
    drop(pool);
}

/// The name of a field, by its message and number.
pub fn field_name(message: &str, number: u32) -> Option<String> {
    let message = pool().get_message_by_name(message)?;
    Some(message.get_field(number)?.name().to_owned())
}

/// Whether messages of this full name (`envoy.config.cluster.v3.Cluster`) can be read and written.
pub fn knows(full_name: &str) -> bool {
    pool().get_message_by_name(full_name).is_some()
}

/// What a message type consists of.
///
/// # Errors
/// When no message has this full name.
pub fn descriptor(full_name: &str) -> Result<MessageDescriptor, Error> {
    pool()
        .get_message_by_name(full_name)
        .ok_or_else(|| Error::UnknownType(full_name.to_owned()))
}

/// All message types there are, also those inside of others and the entries of maps.
pub(crate) fn messages() -> Vec<MessageDescriptor> {
    pool().all_messages().collect()
}

/// Reads a message from its JSON text.
///
/// # Errors
/// On text that is not JSON, a field that the message does not have, or an `Any` of unknown type.
pub fn from_str<M: Message + Name + Default>(text: &str) -> Result<M, Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message = read(&M::full_name(), &mut deserializer)?;
    deserializer.end()?;
    transcode(&message)
}

/// Reads a message from a JSON value.
///
/// # Errors
/// As [`from_str`].
pub fn from_value<M: Message + Name + Default>(value: Value) -> Result<M, Error> {
    transcode(&read(&M::full_name(), value)?)
}

/// Packs a message from a JSON value whose `@type` says what it is.
///
/// # Errors
/// As [`from_str`].
pub fn any_from_value(mut value: Value) -> Result<Any, Error> {
    let kind = value
        .as_object_mut()
        .and_then(|fields| fields.remove("@type"));
    let type_url = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
    let message = read(TypeUrl::new(type_url).message(), value)?;
    Ok(Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    })
}

/// A message of this full name (`envoy.config.cluster.v3.Cluster`) as JSON with the names that
/// protobuf's JSON form has for fields (`connectTimeout`), from JSON with either names. What is in
/// the place of an `Any` keeps its `@type`; the message itself has none.
///
/// # Errors
/// As [`from_str`].
pub fn with_json_names(full_name: &str, mut value: Value) -> Result<Value, Error> {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("@type");
    }
    let message = read(full_name, value)?;
    let options = SerializeOptions::new();
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

fn read<'de, D>(full_name: &str, deserializer: D) -> Result<DynamicMessage, Error>
where
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    let options = DeserializeOptions::new();
    let descriptor = descriptor(full_name)?;
    Ok(DynamicMessage::deserialize_with_options(
        descriptor,
        deserializer,
        &options,
    )?)
}

pub(crate) fn transcode<M: Message + Name + Default>(message: &DynamicMessage) -> Result<M, Error> {
    M::decode(message.encode_to_vec().as_slice()).map_err(|source| Error::Decode {
        type_url: M::type_url(),
        source,
    })
}

/// A message as JSON, with the field names of the proto files, as Envoy writes its dumps.
///
/// # Errors
/// When the message holds an `Any` of a type that is not Envoy's.
pub fn to_value<M: Message + Name>(message: &M) -> Result<Value, Error> {
    encoded_to_value(&M::full_name(), &message.encode_to_vec())
}

/// An encoded message as JSON, by the message's full name.
///
/// # Errors
/// As [`to_value`], and when the bytes are not such a message.
pub fn encoded_to_value(full_name: &str, bytes: &[u8]) -> Result<Value, Error> {
    let message =
        DynamicMessage::decode(descriptor(full_name)?, bytes).map_err(|source| Error::Decode {
            type_url: full_name.to_owned(),
            source,
        })?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// An `Any` as JSON: the fields of the message in it, and `@type`.
///
/// # Errors
/// As [`encoded_to_value`].
pub fn any_to_value(any: &Any) -> Result<Value, Error> {
    encoded_to_value("google.protobuf.Any", &any.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::bootstrap::Bootstrap;
    use crate::types::cluster::{self, Cluster};

    #[test]
    fn bootstrap_with_typed_extension_round_trips() {
        let text = r#"{
          "node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "metadata": {"X": "y"}},
          "static_resources": {"clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connectTimeout": "1.500s",
            "typed_extension_protocol_options": {
              "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}
              }
            }
          }]}
        }"#;
        let bootstrap: Bootstrap = from_str(text).expect("a valid bootstrap");
        let clusters = bootstrap
            .static_resources
            .as_ref()
            .expect("set")
            .clusters
            .clone();
        assert_eq!(clusters[0].name, "xds-grpc");
        let connect = clusters[0].connect_timeout.expect("set");
        assert_eq!((connect.seconds, connect.nanos), (1, 500_000_000));

        let value = to_value(&bootstrap).expect("every type is known");
        let again: Bootstrap = from_value(value.clone()).expect("what we wrote");
        assert_eq!(again, bootstrap);
        assert_eq!(
            value.pointer("/static_resources/clusters/0/connect_timeout"),
            Some(&json!("1.500s"))
        );
    }

    #[test]
    fn names_of_fields_are_translated() {
        let metadata = json!({"filter_metadata": {"istio": {"a_field": "kept"}}});
        let cluster = json!({"@type": "x", "name": "a", "connect_timeout": "1s",
            "metadata": metadata});
        let cluster = with_json_names("envoy.config.cluster.v3.Cluster", cluster);
        assert_eq!(
            cluster.expect("a cluster"),
            json!({"name": "a", "connectTimeout": "1s",
                "metadata": {"filterMetadata": {"istio": {"a_field": "kept"}}}})
        );
    }

    #[test]
    fn an_any_shows_its_fields() {
        let cluster = Cluster {
            name: "a".into(),
            cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(3)),
            ..Cluster::default()
        };
        let value = any_to_value(&crate::pack_any(&cluster)).expect("known type");
        assert_eq!(
            value,
            json!({
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "a",
                "type": "EDS"
            })
        );
    }

    #[test]
    fn what_was_released_is_made_again() {
        let cluster = Cluster {
            name: "a".into(),
            ..Cluster::default()
        };
        let held = descriptor(&Cluster::full_name()).expect("known");
        release();
        assert_eq!(held.full_name(), Cluster::full_name());
        assert_eq!(to_value(&cluster).expect("known"), json!({ "name": "a" }));
    }

    #[test]
    fn faults_are_named() {
        let err = from_str::<Cluster>(r#"{"nmae": "a"}"#).expect_err("no such field");
        assert!(err.to_string().contains("nmae"), "{err}");
        assert!(from_str::<Cluster>("{} {}").is_err());
    }
}
