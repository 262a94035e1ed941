//! Which fields of TLS contexts and secrets are read.

use crate::common::{DATA_SOURCE, STRING_MATCHER};
use crate::unread::Kind::{Harmless, In, Off, Whole};
use crate::unread::Reads;

pub(crate) static RAW_BUFFER: Reads = Reads::of(
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    &[],
);

pub(crate) static DOWNSTREAM_TLS: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    &[
        (1, "common_tls_context", In(&TLS_CONTEXT)),
        (2, "require_client_certificate", Whole),
        (3, "require_sni", Off),
        (7, "disable_stateless_session_resumption", Off),
        (9, "full_scan_certs_on_sni_mismatch", Off),
        (10, "disable_stateful_session_resumption", Off),
        (11, "prefer_client_ciphers", Off),
    ],
);

pub(crate) static UPSTREAM_TLS: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    &[
        (1, "common_tls_context", In(&TLS_CONTEXT)),
        (2, "sni", Whole),
        (3, "allow_renegotiation", Off),
        (5, "enforce_rsa_key_usage", Off),
        (6, "auto_host_sni", Whole),
        (7, "auto_sni_san_validation", Whole),
    ],
);

pub(crate) static TLS_CONTEXT: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    &[
        (1, "tls_params", In(&TLS_PARAMETERS)),
        (2, "tls_certificates[]", In(&CERTIFICATE)),
        (3, "validation_context", In(&VALIDATION)),
        (4, "alpn_protocols[]", Whole),
        (6, "tls_certificate_sds_secret_configs[]", In(&SDS_SECRET)),
        (7, "validation_context_sds_secret_config", In(&SDS_SECRET)),
        (8, "combined_validation_context", In(&COMBINED)),
        (10, "validation_context_certificate_provider", Whole),
        (
            12,
            "validation_context_certificate_provider_instance",
            Whole,
        ),
    ],
);

pub(crate) static TLS_PARAMETERS: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
    &[
        (1, "tls_minimum_protocol_version", Whole),
        (2, "tls_maximum_protocol_version", Whole),
        (3, "cipher_suites[]", Whole),
        (4, "ecdh_curves[]", Whole),
        (5, "signature_algorithms[]", Whole),
        (6, "compliance_policies[]", Whole),
    ],
);

pub(crate) static CERTIFICATE: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    &[
        (1, "certificate_chain", In(&DATA_SOURCE)),
        (2, "private_key", In(&DATA_SOURCE)),
    ],
);

pub(crate) static SDS_SECRET: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
    &[(1, "name", Whole), (2, "sds_config", In(&SECRET_SOURCE))],
);

pub(crate) static COMBINED: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
    &[
        (1, "default_validation_context", In(&VALIDATION)),
        (2, "validation_context_sds_secret_config", In(&SDS_SECRET)),
    ],
);

pub(crate) static VALIDATION: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    &[
        (1, "trusted_ca", In(&DATA_SOURCE)),
        (2, "verify_certificate_hash[]", Whole),
        (3, "verify_certificate_spki[]", Whole),
        (6, "require_signed_certificate_timestamp", Whole),
        (7, "crl", In(&DATA_SOURCE)),
        (8, "allow_expired_certificate", Off),
        (9, "match_subject_alt_names[]", In(&STRING_MATCHER)),
        (12, "custom_validator_config", Whole),
        (13, "ca_certificate_provider_instance", Whole),
        (15, "match_typed_subject_alt_names[]", In(&SAN_MATCHER)),
        (16, "max_verify_depth", Whole),
        (17, "system_root_certs", Whole),
        (18, "suppress_client_ca_list", Off),
    ],
);

pub(crate) static SAN_MATCHER: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    &[(1, "san_type", Whole), (2, "matcher", In(&STRING_MATCHER))],
);

pub(crate) static SECRET: Reads = Reads::of(
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    &[
        (1, "name", Harmless),
        (2, "tls_certificate", In(&CERTIFICATE)),
        (3, "session_ticket_keys", Whole),
        (4, "validation_context", In(&VALIDATION)),
        (5, "generic_secret", Whole),
    ],
);

/// Secrets come from the workload's own identity or over the stream, whatever server is named.
pub(crate) static SECRET_SOURCE: Reads = Reads::of(
    "envoy.config.core.v3.ConfigSource",
    &[
        (2, "api_config_source", Harmless),
        (3, "ads", Harmless),
        (4, "initial_fetch_timeout", Harmless),
        (6, "resource_api_version", Harmless),
    ],
);
