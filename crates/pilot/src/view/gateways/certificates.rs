//! Which certificates a gateway shows, to its clients and to services.

use std::collections::HashSet;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{Gateway, ServerTlsMode, ServerTlsSettings};
use lateen_core::Hostname;
use lateen_galley::{BACKEND_TLS, CLIENT_CERTIFICATE, GATEWAY_SERVICE};

use crate::listener::ServerTls;
use crate::policy::Rule;
use crate::snapshot::full_host;
use crate::view::View;

impl<'a> View<'a> {
    /// Hosts to which a gateway may show another certificate than before: those of BackendTLSPolicies,
    /// where Services changed by which a Gateway that names a certificate is reached.
    pub(crate) fn shown_anew(self, changed: &HashSet<Hostname>) -> Vec<Hostname> {
        let is_reached = |gateway: &Arc<Object<Gateway>>| {
            let annotations = &gateway.meta.annotations;
            let by = annotations.get(GATEWAY_SERVICE);
            let by = by.filter(|_| annotations.contains_key(CLIENT_CERTIFICATE));
            by.is_some_and(|hosts| {
                let mut hosts = hosts.split(',');
                hosts.any(|host| changed.contains(&Hostname::new(host)))
            })
        };
        let config = &self.snapshot.config;
        if !self.from.is_router() || !config.gateways.iter().any(is_reached) {
            return Vec::new();
        }
        let rules = config.destination_rules.iter();
        let of_policies = rules.filter(|rule| rule.meta.annotations.contains_key(BACKEND_TLS));
        let domain = &self.snapshot.domain;
        let hosts = of_policies.map(|rule| {
            let namespace = &rule.meta.namespace;
            full_host(&rule.spec.host, namespace, domain)
        });
        hosts.collect()
    }

    /// The credential that the proxy shows to a subset that a BackendTLSPolicy became; empty where its
    /// Gateway names none, and for all else.
    pub(in crate::view) fn client_certificate(self, rules: &[Rule], subset: &str) -> &'a str {
        let is_of_policy = |rule: &Rule| {
            let mut subsets = rule.spec.subsets.iter();
            rule.meta.annotations.contains_key(BACKEND_TLS) && subsets.any(|of| of.name == subset)
        };
        if !self.from.is_router() || subset.is_empty() || !rules.iter().any(is_of_policy) {
            return "";
        }
        let mut gateways = self.snapshot.config.gateways.iter();
        let shown = gateways.find_map(|gateway| {
            let annotations = &gateway.meta.annotations;
            let credential = annotations.get(CLIENT_CERTIFICATE)?;
            let hosts = annotations.get(GATEWAY_SERVICE)?;
            self.serves_one_of(hosts).then_some(credential.as_str())
        });
        shown.unwrap_or_default()
    }
}

/// How TLS ends at a server; `None` where nothing says with which certificate.
pub(in crate::view) fn server_tls(settings: &ServerTlsSettings, http: bool) -> Option<ServerTls> {
    let mode = settings.mode.unwrap_or(ServerTlsMode::Simple);
    let one = Some(&settings.credential_name).filter(|name| !name.is_empty());
    let credentials: Vec<_> = match one {
        Some(name) => vec![name.clone()],
        None => settings.credential_names.clone(),
    };
    let mesh = mode == ServerTlsMode::IstioMutual;
    let files = if credentials.is_empty() {
        files(settings)
    } else {
        Vec::new()
    };
    if credentials.is_empty() && files.is_empty() && !mesh {
        return None;
    }
    let roots = match settings.ca_cert_credential_name.as_str() {
        "" => credentials.first().cloned().unwrap_or_default(),
        own => own.to_owned(),
    };
    let roots_file = Some(&settings.ca_certificates).filter(|file| !file.is_empty());
    let of_pairs = || {
        settings
            .tls_certificates
            .iter()
            .map(|pair| &pair.ca_certificates)
    };
    let roots_file = roots_file.or_else(|| of_pairs().find(|file| !file.is_empty()));
    Some(ServerTls {
        credentials,
        files,
        roots,
        roots_file: roots_file.cloned().unwrap_or_default(),
        revoked_file: settings.ca_crl.clone(),
        client: match mode {
            ServerTlsMode::Mutual => Some(true),
            ServerTlsMode::OptionalMutual => Some(false),
            _ => None,
        },
        mesh,
        names: settings.subject_alt_names.clone(),
        pins: [
            settings.verify_certificate_hash.clone(),
            settings.verify_certificate_spki.clone(),
        ],
        versions: (
            settings.min_protocol_version.into(),
            settings.max_protocol_version.into(),
        ),
        ciphers: settings.cipher_suites.clone(),
        curves: settings.ecdh_curves.clone(),
        http,
    })
}

/// Certificates and keys as files: several for several kinds of keys.
fn files(settings: &ServerTlsSettings) -> Vec<[String; 2]> {
    let pair = |certificate: &String, key: &String| [certificate.clone(), key.clone()];
    if settings.server_certificate.is_empty() {
        let pairs = settings.tls_certificates.iter();
        let pairs = pairs.map(|of| pair(&of.server_certificate, &of.private_key));
        return pairs.collect();
    }
    vec![pair(&settings.server_certificate, &settings.private_key)]
}
