//! What is counted of datagrams, by Envoy's names.

use lateen_telemetry::metrics::{Counter, Gauge};

/// What listeners with one prefix have counted, seen from their clients.
#[derive(Debug, Default)]
pub(crate) struct UdpStats {
    pub sess_total: Counter,
    pub sess_active: Gauge,
    pub sess_no_route: Counter,
    pub rx_bytes: Counter,
    pub rx_datagrams: Counter,
    pub rx_errors: Counter,
    pub tx_bytes: Counter,
    pub tx_datagrams: Counter,
    pub tx_errors: Counter,
    pub idle_timeout: Counter,
}

impl UdpStats {
    /// Names and values.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        let active = u64::try_from(self.sess_active.value()).unwrap_or(0);
        vec![
            ("downstream_sess_active", active),
            ("downstream_sess_no_route", self.sess_no_route.value()),
            ("downstream_sess_rx_bytes", self.rx_bytes.value()),
            ("downstream_sess_rx_datagrams", self.rx_datagrams.value()),
            ("downstream_sess_rx_errors", self.rx_errors.value()),
            ("downstream_sess_total", self.sess_total.value()),
            ("downstream_sess_tx_bytes", self.tx_bytes.value()),
            ("downstream_sess_tx_datagrams", self.tx_datagrams.value()),
            ("downstream_sess_tx_errors", self.tx_errors.value()),
            ("idle_timeout", self.idle_timeout.value()),
        ]
    }
}

/// What a cluster has counted, seen from its hosts.
#[derive(Debug, Default)]
pub(crate) struct UdpClusterStats {
    pub rx_datagrams: Counter,
    /// They were longer than they may be.
    pub rx_datagrams_dropped: Counter,
    pub rx_errors: Counter,
    pub tx_datagrams: Counter,
    pub tx_errors: Counter,
}

impl UdpClusterStats {
    /// Names and values, where anything was counted.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        let list = vec![
            ("sess_rx_datagrams", self.rx_datagrams.value()),
            (
                "sess_rx_datagrams_dropped",
                self.rx_datagrams_dropped.value(),
            ),
            ("sess_rx_errors", self.rx_errors.value()),
            ("sess_tx_datagrams", self.tx_datagrams.value()),
            ("sess_tx_errors", self.tx_errors.value()),
        ];
        match list.iter().any(|(_, value)| *value > 0) {
            true => list,
            false => Vec::new(),
        }
    }
}
