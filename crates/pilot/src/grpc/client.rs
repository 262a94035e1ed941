//! Listeners of clients, by the name that is dialled.

use lateen_xds::pack_any;
use lateen_xds::types::listener::{ApiListener, Listener};
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::types::network::hcm::{HttpConnectionManager, Rds};

/// All that one is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ApiListenerKey {
    /// `reviews:9080`, in any of the service's names.
    pub(crate) name: String,
    /// The service's full name and port.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ApiListenerKey {
    pub(crate) fn generate(&self) -> Listener {
        let manager = HttpConnectionManager {
            http_filters: super::http_filters(true),
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                config_source: super::ads(),
                route_config_name: super::table(self.port, &self.host),
            })),
            ..HttpConnectionManager::default()
        };
        Listener {
            name: self.name.clone(),
            api_listener: Some(ApiListener {
                api_listener: Some(pack_any(&manager)),
            }),
            ..Listener::default()
        }
    }
}
