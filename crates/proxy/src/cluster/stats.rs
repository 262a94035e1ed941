//! What one cluster has counted.

use lateen_telemetry::metrics::{Counter, Gauge};

use crate::udp::UdpClusterStats;

/// The counters of a cluster; they outlive its configuration.
#[derive(Debug, Default)]
pub(crate) struct ClusterStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_connect_fail: Counter,
    /// There was no host to choose.
    pub cx_none_healthy: Counter,
    /// There were as many connections as there may be.
    pub cx_overflow: Counter,
    pub rq_total: Counter,
    pub rq_active: Gauge,
    pub rq_timeout: Counter,
    pub rq_retry: Counter,
    /// Requests that we gave up ourselves.
    pub rq_tx_reset: Counter,
    pub rq_error: Counter,
    pub rq_success: Counter,
    pub rx_bytes: Counter,
    pub tx_bytes: Counter,
    /// By the first digit of the status.
    pub by_class: [Counter; 5],
    /// Of datagrams.
    pub udp: UdpClusterStats,
}

impl ClusterStats {
    /// Counts a response.
    pub(crate) fn response(&self, status: u16) {
        if let Some(class) = self.by_class.get((status / 100).wrapping_sub(1) as usize) {
            class.inc();
        }
        if status < 500 {
            &self.rq_success
        } else {
            &self.rq_error
        }
        .inc();
    }

    /// True where it was ever used.
    pub(crate) fn is_used(&self) -> bool {
        let tries = self.cx_total.value() + self.rq_total.value() + self.cx_connect_fail.value();
        tries + self.cx_none_healthy.value() + self.cx_overflow.value() > 0
            || !self.udp.list().is_empty()
    }

    /// Names and values in Envoy's terms.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        let gauge = |gauge: &Gauge| u64::try_from(gauge.value()).unwrap_or(0);
        vec![
            ("upstream_cx_total", self.cx_total.value()),
            ("upstream_cx_active", gauge(&self.cx_active)),
            ("upstream_cx_connect_fail", self.cx_connect_fail.value()),
            ("upstream_cx_none_healthy", self.cx_none_healthy.value()),
            ("upstream_cx_overflow", self.cx_overflow.value()),
            ("upstream_cx_rx_bytes_total", self.rx_bytes.value()),
            ("upstream_cx_tx_bytes_total", self.tx_bytes.value()),
            ("upstream_rq_total", self.rq_total.value()),
            ("upstream_rq_active", gauge(&self.rq_active)),
            ("upstream_rq_timeout", self.rq_timeout.value()),
            ("upstream_rq_retry", self.rq_retry.value()),
            ("upstream_rq_tx_reset", self.rq_tx_reset.value()),
            ("upstream_rq_1xx", self.by_class[0].value()),
            ("upstream_rq_2xx", self.by_class[1].value()),
            ("upstream_rq_3xx", self.by_class[2].value()),
            ("upstream_rq_4xx", self.by_class[3].value()),
            ("upstream_rq_5xx", self.by_class[4].value()),
        ]
    }
}

/// True for what goes up and down.
pub(crate) fn is_gauge(name: &str) -> bool {
    name.ends_with("_active")
}
