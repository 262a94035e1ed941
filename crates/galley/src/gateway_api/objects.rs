//! The objects that users wrote, typed.

use std::{collections::BTreeMap, sync::Arc};

use lateen_api::{Object, ObjectError, gateway_api::*, ingress::*};
use lateen_core::ObjectRef;
use serde_json::Value;

/// Objects of a kind by namespace and name.
pub(crate) type Kept<T> = BTreeMap<(String, String), Arc<Object<T>>>;

macro_rules! objects {
    ($($id:literal => $list:ident: $type:ty),* $(,)?) => {
        /// All objects at one moment.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct Objects {
            $(pub(crate) $list: Kept<$type>,)*
        }

        impl Objects {
            /// Takes in an object, or that it is gone; whether anything is different now. `None`
            /// where the kind is none of these. What cannot be read does not displace its last form.
            pub(crate) fn set(&mut self, key: &ObjectRef, value: Option<&Value>) -> Option<bool> {
                match key.kind {
                    $($id => Some(set(&mut self.$list, key, value)),)*
                    _ => None,
                }
            }

            pub(crate) fn is_empty(&self) -> bool {
                $(self.$list.is_empty())&&*
            }
        }

        /// Why a document of the Gateway API or of Ingress cannot be read, by the id of its kind;
        /// `None` where it can be, and for other kinds.
        pub fn unreadable(kind: &str, value: &Value) -> Option<ObjectError> {
            match kind {
                $($id => Object::<$type>::from_value(value).err(),)*
                _ => None,
            }
        }
    };
}

objects! {
    "GatewayClass" => classes: GatewayClass,
    "KubernetesGateway" => gateways: Gateway,
    "ListenerSet" => listener_sets: ListenerSet,
    "HTTPRoute" => http_routes: HttpRoute,
    "GRPCRoute" => grpc_routes: GrpcRoute,
    "TLSRoute" => tls_routes: TlsRoute,
    "TCPRoute" => tcp_routes: TcpRoute,
    "UDPRoute" => udp_routes: UdpRoute,
    "ReferenceGrant" => grants: ReferenceGrant,
    "BackendTLSPolicy" => backend_tls_policies: BackendTlsPolicy,
    "Ingress" => ingresses: Ingress,
    "IngressClass" => ingress_classes: IngressClass,
}

fn set<T: serde::de::DeserializeOwned + PartialEq>(
    list: &mut Kept<T>,
    key: &ObjectRef,
    value: Option<&Value>,
) -> bool {
    let name = (key.namespace.to_string(), key.name.to_string());
    let Some(value) = value else {
        return list.remove(&name).is_some();
    };
    match Object::from_value(value) {
        Ok(object) if list.get(&name).is_some_and(|held| **held == object) => false,
        Ok(object) => {
            list.insert(name, Arc::new(object));
            true
        }
        Err(error) => {
            tracing::warn!(object = %key, %error, "unreadable, last form kept");
            false
        }
    }
}

/// By age, then name: the order in which objects that compete win.
pub(crate) fn by_age<T>(list: &Kept<T>) -> Vec<&Object<T>> {
    let mut all: Vec<&Object<T>> = list.values().map(Arc::as_ref).collect();
    all.sort_by_key(|object| {
        let created = object.meta.creation_timestamp;
        (created.is_none(), created)
    });
    all
}
