//! What Istio 1.0 wrote and later versions write otherwise, read as if it were written today.
//!
//! The API server stores one version and hands out any, so an object that was written as `v1alpha3`
//! is read as `v1`: old fields are understood in every version. They are read when the type is read,
//! so that nothing behind this module knows of them, and they are never written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

use crate::{
    Schema,
    networking::{HeaderOperations, Headers, HttpRoute, HttpRouteDestination, OutlierDetection},
    schema::message,
};

message! {
    /// Fields of an HTTP rule that `headers` has replaced.
    pub(crate) struct OldHttpRoute {
        /// WebSockets are always let through: true changes nothing, and false never did.
        pub websocket_upgrade: bool,
        /// Request headers to append, in the form of 1.0.
        pub append_headers: BTreeMap<String, String>,
        /// Request headers to append.
        pub append_request_headers: BTreeMap<String, String>,
        /// Request headers to take away.
        pub remove_request_headers: HeaderNames,
        /// Response headers to append.
        pub append_response_headers: BTreeMap<String, String>,
        /// Response headers to take away.
        pub remove_response_headers: HeaderNames,
    }

    /// Fields of a weighted destination that `headers` has replaced.
    pub(crate) struct OldHttpRouteDestination {
        /// Request headers to append.
        pub append_request_headers: BTreeMap<String, String>,
        /// Request headers to take away.
        pub remove_request_headers: HeaderNames,
        /// Response headers to append.
        pub append_response_headers: BTreeMap<String, String>,
        /// Response headers to take away.
        pub remove_response_headers: HeaderNames,
    }

    /// A field of outlier detection that two others have replaced.
    pub(crate) struct OldOutlierDetection {
        /// 502, 503 and 504 in a row; other 5xx did not count where this was set.
        pub consecutive_errors: Option<i32>,
    }

    /// The port of a destination by its name.
    pub(crate) struct OldPortSelector {
        /// Name of the service's port.
        pub name: String,
    }
}

/// Names of headers: a list, or a map of which the keys count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeaderNames(Vec<String>);

impl<'de> Deserialize<'de> for HeaderNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(Vec<String>),
            Map(BTreeMap<String, Value>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::List(names) => names,
            Form::Map(names) => names.into_keys().collect(),
        }))
    }
}

impl Serialize for HeaderNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Schema for HeaderNames {
    fn schema() -> Value {
        json!({"x-kubernetes-preserve-unknown-fields": true})
    }
}

/// A type that has fields of old.
trait Compat {
    type Old: for<'de> Deserialize<'de>;

    /// Puts what was read from old fields where it belongs today.
    fn take(&mut self, old: Self::Old);
}

impl Compat for HttpRoute {
    type Old = OldHttpRoute;

    fn take(&mut self, old: OldHttpRoute) {
        let mut append = old.append_headers;
        append.extend(old.append_request_headers);
        take_request(&mut self.headers, append, old.remove_request_headers);
        let append = old.append_response_headers;
        take_response(&mut self.headers, append, old.remove_response_headers);
    }
}

impl Compat for HttpRouteDestination {
    type Old = OldHttpRouteDestination;

    fn take(&mut self, old: OldHttpRouteDestination) {
        let append = old.append_request_headers;
        take_request(&mut self.headers, append, old.remove_request_headers);
        let append = old.append_response_headers;
        take_response(&mut self.headers, append, old.remove_response_headers);
    }
}

impl Compat for OutlierDetection {
    type Old = OldOutlierDetection;

    fn take(&mut self, old: OldOutlierDetection) {
        let newer = self.consecutive_gateway_errors.is_some();
        if let Some(errors) = old.consecutive_errors
            && !newer
        {
            self.consecutive_gateway_errors = Some(u32::try_from(errors).unwrap_or(0));
            self.consecutive_5xx_errors.get_or_insert(0);
        }
    }
}

fn take_request(
    headers: &mut Option<Headers>,
    append: BTreeMap<String, String>,
    remove: HeaderNames,
) {
    if !append.is_empty() || !remove.0.is_empty() {
        let request = &mut headers.get_or_insert_default().request;
        take_operations(request.get_or_insert_default(), append, remove);
    }
}

fn take_response(
    headers: &mut Option<Headers>,
    append: BTreeMap<String, String>,
    remove: HeaderNames,
) {
    if !append.is_empty() || !remove.0.is_empty() {
        let response = &mut headers.get_or_insert_default().response;
        take_operations(response.get_or_insert_default(), append, remove);
    }
}

/// What is written in today's field wins over an old field that says otherwise.
fn take_operations(
    operations: &mut HeaderOperations,
    append: BTreeMap<String, String>,
    remove: HeaderNames,
) {
    for (name, value) in append {
        operations.add.entry(name).or_insert(value);
    }
    for name in remove.0 {
        if !operations.remove.contains(&name) {
            operations.remove.push(name);
        }
    }
}

/// The derived forms are inherent functions of types that are declared with `remote = "Self"`.
macro_rules! reads_old_fields {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = Value::deserialize(deserializer)?;
                let old = <$name as Compat>::Old::deserialize(&value).map_err(D::Error::custom)?;
                let mut new = $name::deserialize(value).map_err(D::Error::custom)?;
                Compat::take(&mut new, old);
                Ok(new)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, serializer)
            }
        }
    )*};
}

reads_old_fields!(HttpRoute, HttpRouteDestination, OutlierDetection);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    #[track_caller]
    fn same<T: DeserializeOwned + PartialEq + std::fmt::Debug>(old: Value, new: Value) {
        let read = |value| serde_json::from_value::<T>(value).expect("readable");
        assert_eq!(read(old), read(new));
    }

    #[test]
    fn headers_of_routes_and_destinations() {
        same::<HttpRoute>(
            json!({"websocketUpgrade": true, "appendHeaders": {"a": "1"}, "removeResponseHeaders": {"b": ""}}),
            json!({"headers": {"request": {"add": {"a": "1"}}, "response": {"remove": ["b"]}}}),
        );
        same::<HttpRoute>(
            json!({"route": [{"weight": 90, "appendRequestHeaders": {"a": "1"}, "removeRequestHeaders": ["b"],
                "appendResponseHeaders": {"c": "2"}, "removeResponseHeaders": ["d"]}]}),
            json!({"route": [{"weight": 90, "headers": {"request": {"add": {"a": "1"}, "remove": ["b"]},
                "response": {"add": {"c": "2"}, "remove": ["d"]}}}]}),
        );
    }

    #[test]
    fn what_is_written_in_todays_field_wins() {
        same::<HttpRoute>(
            json!({"appendHeaders": {"a": "old", "b": "1"}, "headers": {"request": {"add": {"a": "new"}}}}),
            json!({"headers": {"request": {"add": {"a": "new", "b": "1"}}}}),
        );
        same::<OutlierDetection>(
            json!({"consecutiveErrors": 3, "consecutiveGatewayErrors": 5}),
            json!({"consecutiveGatewayErrors": 5}),
        );
    }

    #[test]
    fn consecutive_errors_were_gateway_errors_alone() {
        same::<OutlierDetection>(
            json!({"consecutiveErrors": 3}),
            json!({"consecutiveGatewayErrors": 3, "consecutive5xxErrors": 0}),
        );
        same::<OutlierDetection>(
            json!({"consecutiveErrors": 3, "consecutive5xxErrors": 7}),
            json!({"consecutiveGatewayErrors": 3, "consecutive5xxErrors": 7}),
        );
    }

    #[test]
    fn whole_numbers_for_shares() {
        let route: HttpRoute =
            serde_json::from_value(json!({"fault": {"abort": {"percent": 10}}})).expect("readable");
        let abort = route.fault.and_then(|fault| fault.abort).expect("an abort");
        assert_eq!(abort.share(), 10.0);
    }

    #[test]
    fn old_fields_are_known_and_never_written() {
        let schema = HttpRoute::schema();
        assert_eq!(schema["properties"]["appendHeaders"]["x-lateen-old"], true);
        let route: HttpRoute =
            serde_json::from_value(json!({"appendHeaders": {"a": "1"}})).expect("readable");
        assert_eq!(
            serde_json::to_value(&route).expect("writable"),
            json!({"headers": {"request": {"add": {"a": "1"}}}}),
        );
    }
}
