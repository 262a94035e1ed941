//! `citadel_server_*`, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the authority counts.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) csr: Counter,
    pub(crate) authentication_failure: Counter,
    pub(crate) csr_parsing_error: Counter,
    pub(crate) sign_error: Counter,
    pub(crate) issued: Counter,
    root_expiry: Counter,
    chain_expiry: Counter,
}

/// A number that only this file and its incrementer know.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    pub(crate) fn root_expires(&self, root: SystemTime, chain: SystemTime) {
        let seconds = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.root_expiry.0.store(seconds(root), Ordering::Relaxed);
        self.chain_expiry.0.store(seconds(chain), Ordering::Relaxed);
    }

    /// Appends all families in the text format.
    pub fn render(&self, out: &mut String) {
        let families = [
            (
                "csr_count",
                "counter",
                "Signing requests received.",
                &self.csr,
            ),
            (
                "authentication_failure_count",
                "counter",
                "Requests whose caller was not authenticated.",
                &self.authentication_failure,
            ),
            (
                "csr_parsing_err_count",
                "counter",
                "Signing requests that could not be read.",
                &self.csr_parsing_error,
            ),
            (
                "csr_sign_err_count",
                "counter",
                "Signing requests that could not be signed.",
                &self.sign_error,
            ),
            (
                "success_cert_issuance_count",
                "counter",
                "Certificates issued.",
                &self.issued,
            ),
            (
                "root_cert_expiry_timestamp",
                "gauge",
                "When the root expires, Unix seconds.",
                &self.root_expiry,
            ),
            (
                "cert_chain_expiry_timestamp",
                "gauge",
                "When the signing certificate expires, Unix seconds.",
                &self.chain_expiry,
            ),
        ];
        for (name, kind, help, counter) in families {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP citadel_server_{name} {help}");
            let _ = writeln!(out, "# TYPE citadel_server_{name} {kind}");
            let _ = writeln!(out, "citadel_server_{name} {}", counter.value());
        }
    }
}
