//! TLS contexts and secrets.

use lateen_tls::{Algorithms, PeerRule, SanKind, SanMatch, Version};
use lateen_xds::types::{core, matcher, tls as pb};

use super::{DecodeError, Result};

/// Where a context's certificate and roots come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct SecretNames {
    /// The certificates and their keys; a server may have several.
    pub certs: Vec<Source>,
    /// The roots that peers are verified against.
    pub roots: Source,
}

/// Where one half of an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) enum Source {
    /// Nowhere.
    #[default]
    None,
    /// From a secret of that name.
    Sds(String),
    /// From the configuration itself: certificate chain and key, or roots and nothing.
    Inline(String, String),
}

/// What both sides' contexts have in common.
#[derive(Debug, Clone)]
pub(crate) struct TlsSpec {
    pub names: SecretNames,
    pub rule: PeerRule,
    pub alpn: Vec<String>,
    pub min: Version,
    pub max: Version,
    pub algorithms: Algorithms,
    /// Only for clients.
    pub sni: Option<String>,
    /// Only for servers.
    pub require_client: bool,
}

pub(super) fn downstream(spec: &pb::DownstreamTlsContext) -> Result<TlsSpec> {
    let mut tls = common(spec.common_tls_context.as_ref())?;
    tls.require_client = spec
        .require_client_certificate
        .as_ref()
        .is_some_and(|v| v.value);
    if tls.names.certs.is_empty() {
        return Err(DecodeError::new(
            "tls_certificates",
            "a server needs a certificate",
        ));
    }
    if tls.require_client && tls.names.roots == Source::None {
        return Err(DecodeError::new(
            "require_client_certificate",
            "needs roots to verify clients against",
        ));
    }
    Ok(tls)
}

pub(super) fn upstream(spec: &pb::UpstreamTlsContext) -> Result<TlsSpec> {
    let mut tls = common(spec.common_tls_context.as_ref())?;
    if tls.names.certs.len() > 1 {
        return Err(DecodeError::unsupported(
            "tls_certificates",
            "more than one certificate of a client",
        ));
    }
    tls.sni = (!spec.sni.is_empty()).then(|| spec.sni.clone());
    Ok(tls)
}

fn common(spec: Option<&pb::CommonTlsContext>) -> Result<TlsSpec> {
    let empty = pb::CommonTlsContext::default();
    let spec = spec.unwrap_or(&empty);
    let (roots, rule) = validation(spec)?;
    let params = spec.tls_params.as_ref();
    Ok(TlsSpec {
        names: SecretNames {
            certs: certificates(spec)?,
            roots,
        },
        rule,
        alpn: spec.alpn_protocols.clone(),
        min: match params.map_or(0, |params| params.tls_minimum_protocol_version) {
            4 => Version::Tls13,
            _ => Version::Tls12,
        },
        max: match params.map_or(0, |params| params.tls_maximum_protocol_version) {
            1..=3 => Version::Tls12,
            _ => Version::Tls13,
        },
        algorithms: params.map(algorithms).transpose()?.unwrap_or_default(),
        sni: None,
        require_client: false,
    })
}

/// Fails closed: an algorithm that we do not have is not replaced by others.
fn algorithms(params: &pb::TlsParameters) -> Result<Algorithms> {
    let unsupported = |field: &str| Err(DecodeError::unsupported(field, "this restriction"));
    if !params.signature_algorithms.is_empty() {
        return unsupported("tls_params.signature_algorithms");
    }
    if !params.compliance_policies.is_empty() {
        return unsupported("tls_params.compliance_policies");
    }
    let refused = |field: &'static str| {
        move |error: lateen_tls::Error| DecodeError::new(field, error.to_string())
    };
    Algorithms::default()
        .with_suites(&params.cipher_suites)
        .map_err(refused("tls_params.cipher_suites"))?
        .with_groups(&params.ecdh_curves)
        .map_err(refused("tls_params.ecdh_curves"))
}

/// Secrets count only where no certificate stands in the context itself.
fn certificates(spec: &pb::CommonTlsContext) -> Result<Vec<Source>> {
    if spec.tls_certificates.is_empty() {
        let secrets = spec.tls_certificate_sds_secret_configs.iter();
        return Ok(secrets.map(|s| Source::Sds(s.name.clone())).collect());
    }
    let inline = spec.tls_certificates.iter().map(|certificate| {
        let (chain, key) = certificate_pem(certificate)?;
        Ok(Source::Inline(chain, key))
    });
    inline.collect()
}

fn certificate_pem(spec: &pb::TlsCertificate) -> Result<(String, String)> {
    let part = |field: &str, source: Option<&core::DataSource>| {
        let source = source.ok_or_else(|| DecodeError::new(field, "is required"))?;
        text(field, source)
    };
    Ok((
        part("certificate_chain", spec.certificate_chain.as_ref())?,
        part("private_key", spec.private_key.as_ref())?,
    ))
}

fn validation(spec: &pb::CommonTlsContext) -> Result<(Source, PeerRule)> {
    use pb::common_tls_context::ValidationContextType;
    match &spec.validation_context_type {
        None => Ok((Source::None, PeerRule::AnyTrusted)),
        Some(ValidationContextType::ValidationContext(context)) => {
            Ok((roots(context)?, rule(context)?))
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            Ok((Source::Sds(secret.name.clone()), PeerRule::AnyTrusted))
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let context = combined.default_validation_context.as_ref();
            let rule = context.map(rule).transpose()?.unwrap_or_default();
            let source = match &combined.validation_context_sds_secret_config {
                Some(secret) => Source::Sds(secret.name.clone()),
                None => context.map(roots).transpose()?.unwrap_or_default(),
            };
            Ok((source, rule))
        }
        Some(_) => Err(DecodeError::unsupported(
            "validation_context",
            "a certificate provider",
        )),
    }
}

fn roots(context: &pb::CertificateValidationContext) -> Result<Source> {
    match &context.trusted_ca {
        None => Ok(Source::None),
        Some(source) => Ok(Source::Inline(text("trusted_ca", source)?, String::new())),
    }
}

fn rule(context: &pb::CertificateValidationContext) -> Result<PeerRule> {
    // Fails closed: a restriction that we do not know is not dropped.
    if !context.verify_certificate_spki.is_empty() || !context.verify_certificate_hash.is_empty() {
        return Err(DecodeError::unsupported(
            "validation_context",
            "pinning of certificates",
        ));
    }
    if context.crl.is_some() {
        return Err(DecodeError::unsupported(
            "validation_context.crl",
            "a revocation list",
        ));
    }
    #[allow(deprecated)]
    let untyped = context.match_subject_alt_names.iter();
    let typed = context.match_typed_subject_alt_names.iter().map(|san| {
        let missing = || DecodeError::new("match_typed_subject_alt_names", "has no matcher");
        let matcher = san.matcher.as_ref().ok_or_else(missing)?;
        Ok((san_kind(san.san_type())?, san_match(matcher)?))
    });
    let untyped = untyped.map(|san| Ok((SanKind::Any, san_match(san)?)));
    let names = typed.chain(untyped).collect::<Result<Vec<_>>>()?;
    Ok(if names.is_empty() {
        PeerRule::AnyTrusted
    } else {
        PeerRule::Names(names)
    })
}

fn san_kind(kind: pb::subject_alt_name_matcher::SanType) -> Result<SanKind> {
    use pb::subject_alt_name_matcher::SanType;
    match kind {
        SanType::Uri => Ok(SanKind::Uri),
        SanType::Dns => Ok(SanKind::Dns),
        SanType::IpAddress => Ok(SanKind::Ip),
        SanType::Unspecified | SanType::Email | SanType::OtherName => Err(
            DecodeError::unsupported("match_typed_subject_alt_names", "this type of name"),
        ),
    }
}

fn san_match(spec: &matcher::StringMatcher) -> Result<SanMatch> {
    use matcher::string_matcher::MatchPattern;
    match &spec.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(SanMatch::Exact(text.clone())),
        Some(MatchPattern::Prefix(text)) => Ok(SanMatch::Prefix(text.clone())),
        Some(MatchPattern::Suffix(text)) => Ok(SanMatch::Suffix(text.clone())),
        Some(MatchPattern::Contains(text)) => Ok(SanMatch::Contains(text.clone())),
        _ => Err(DecodeError::unsupported(
            "match_subject_alt_names",
            "this string matcher",
        )),
    }
}

/// The PEM texts of a secret: a certificate with its key, or roots.
pub(crate) fn secret_pem(secret: &pb::Secret) -> Result<(String, Option<String>)> {
    match &secret.r#type {
        Some(pb::secret::Type::TlsCertificate(certificate)) => {
            let (chain, key) = certificate_pem(certificate)?;
            Ok((chain, Some(key)))
        }
        Some(pb::secret::Type::ValidationContext(context)) => match roots(context)? {
            Source::Inline(pem, _) => Ok((pem, None)),
            _ => Err(DecodeError::new("trusted_ca", "is required")),
        },
        _ => Err(DecodeError::unsupported("secret", "this kind of secret")),
    }
}

fn text(field: &str, source: &core::DataSource) -> Result<String> {
    String::from_utf8(data(field, source)?).map_err(|_| DecodeError::new(field, "is not UTF-8"))
}

/// The bytes of a data source.
pub(super) fn data(field: &str, source: &core::DataSource) -> Result<Vec<u8>> {
    use core::data_source::Specifier;
    match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(path)) => {
            std::fs::read(path).map_err(|error| DecodeError::new(field, format!("{path}: {error}")))
        }
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|error| DecodeError::new(field, format!("{name}: {error}"))),
        None => Err(DecodeError::new(field, "names no source")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(params: pb::TlsParameters, n_certificates: usize) -> pb::CommonTlsContext {
        let secret = pb::SdsSecretConfig {
            name: "cert".to_owned(),
            ..Default::default()
        };
        pb::CommonTlsContext {
            tls_params: Some(params),
            tls_certificate_sds_secret_configs: vec![secret; n_certificates],
            ..Default::default()
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let check = |params: pb::TlsParameters, field: &str| {
            let refused = common(Some(&context(params, 1)));
            let error = refused.expect_err(field);
            assert_eq!(error.field, field);
        };
        let suites = pb::TlsParameters {
            cipher_suites: names(&["ECDHE-RSA-AES128-GCM-SHA256", "AES512-SHA"]),
            ..Default::default()
        };
        check(suites, "tls_params.cipher_suites");
        let curves = pb::TlsParameters {
            ecdh_curves: names(&["P-521"]),
            ..Default::default()
        };
        check(curves, "tls_params.ecdh_curves");
        let signatures = pb::TlsParameters {
            signature_algorithms: names(&["rsa_pkcs1_sha1"]),
            ..Default::default()
        };
        check(signatures, "tls_params.signature_algorithms");
    }

    #[test]
    fn a_server_may_have_several_certificates_and_a_client_one() {
        let common_tls_context = Some(context(pb::TlsParameters::default(), 2));
        let server = downstream(&pb::DownstreamTlsContext {
            common_tls_context: common_tls_context.clone(),
            ..Default::default()
        });
        assert_eq!(server.expect("valid").names.certs.len(), 2);
        let client = upstream(&pb::UpstreamTlsContext {
            common_tls_context,
            ..Default::default()
        });
        assert_eq!(client.expect_err("two").field, "tls_certificates");
    }
}
