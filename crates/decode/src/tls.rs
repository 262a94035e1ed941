//! TLS contexts and secrets.

pub(crate) mod reads;
mod spec;

use base64::Engine as _;
use lateen_route::StringMatch;
use lateen_xds::types::{matcher, tls as pb};

use super::common::Data;
use super::{DecodeError, Result};
pub use spec::{CertSource, Pins, RootSource, SanKind, SecretData, TlsSpec, TlsVersion};

pub(super) fn downstream(spec: &pb::DownstreamTlsContext) -> Result<TlsSpec> {
    let mut tls = common(spec.common_tls_context.as_ref())?;
    tls.require_client = spec
        .require_client_certificate
        .as_ref()
        .is_some_and(|v| v.value);
    if tls.certs.is_empty() {
        return Err(DecodeError::new(
            "tls_certificates",
            "a server needs a certificate",
        ));
    }
    if tls.require_client && tls.roots == RootSource::None {
        return Err(DecodeError::new(
            "require_client_certificate",
            "needs roots to verify clients against",
        ));
    }
    Ok(tls)
}

pub(super) fn upstream(spec: &pb::UpstreamTlsContext) -> Result<TlsSpec> {
    let mut tls = common(spec.common_tls_context.as_ref())?;
    if tls.certs.len() > 1 {
        return Err(DecodeError::unsupported(
            "tls_certificates",
            "more than one certificate of a client",
        ));
    }
    tls.sni = (!spec.sni.is_empty()).then(|| spec.sni.clone());
    tls.host_sni = spec.auto_host_sni;
    tls.verify_sni = spec.auto_sni_san_validation;
    Ok(tls)
}

fn common(spec: Option<&pb::CommonTlsContext>) -> Result<TlsSpec> {
    let empty = pb::CommonTlsContext::default();
    let spec = spec.unwrap_or(&empty);
    let Validation {
        roots,
        crl,
        names,
        pins,
    } = validation(spec)?;
    let params = spec.tls_params.as_ref();
    params.map(refused).transpose()?;
    Ok(TlsSpec {
        certs: certificates(spec)?,
        roots,
        crl,
        names,
        pins,
        alpn: spec.alpn_protocols.clone(),
        min: match params.map_or(0, |params| params.tls_minimum_protocol_version) {
            4 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        },
        max: match params.map_or(0, |params| params.tls_maximum_protocol_version) {
            1..=3 => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        },
        suites: params.map_or_else(Vec::new, |params| params.cipher_suites.clone()),
        groups: params.map_or_else(Vec::new, |params| params.ecdh_curves.clone()),
        sni: None,
        auto_sni: false,
        host_sni: false,
        verify_sni: false,
        verify_host: false,
        require_client: false,
    })
}

/// Fails closed: a restriction that we do not know is not dropped.
fn refused(params: &pb::TlsParameters) -> Result<()> {
    let unsupported = |field: &str| Err(DecodeError::unsupported(field, "this restriction"));
    if !params.signature_algorithms.is_empty() {
        return unsupported("tls_params.signature_algorithms");
    }
    if !params.compliance_policies.is_empty() {
        return unsupported("tls_params.compliance_policies");
    }
    Ok(())
}

/// Secrets count only where no certificate stands in the context itself.
fn certificates(spec: &pb::CommonTlsContext) -> Result<Vec<CertSource>> {
    if spec.tls_certificates.is_empty() {
        let secrets = spec.tls_certificate_sds_secret_configs.iter();
        return Ok(secrets.map(|s| CertSource::Sds(s.name.clone())).collect());
    }
    spec.tls_certificates.iter().map(certificate).collect()
}

fn certificate(spec: &pb::TlsCertificate) -> Result<CertSource> {
    Ok(CertSource::Given {
        chain: Data::required("certificate_chain", spec.certificate_chain.as_ref())?,
        key: Data::required("private_key", spec.private_key.as_ref())?,
    })
}

/// Names of which a peer's certificate must have one.
type Names = Vec<(SanKind, StringMatch)>;

/// What peers are verified by.
#[derive(Default)]
struct Validation {
    roots: RootSource,
    crl: Option<Data>,
    names: Names,
    pins: Pins,
}

fn validation(spec: &pb::CommonTlsContext) -> Result<Validation> {
    use pb::common_tls_context::ValidationContextType;
    let found = match &spec.validation_context_type {
        None => Validation::default(),
        Some(ValidationContextType::ValidationContext(context)) => Validation {
            roots: roots(context)?,
            crl: crl(context)?,
            names: names(context)?,
            pins: pins(context)?,
        },
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => Validation {
            roots: RootSource::Sds(secret.name.clone()),
            ..Validation::default()
        },
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let context = combined.default_validation_context.as_ref();
            Validation {
                crl: context.map(crl).transpose()?.flatten(),
                names: context.map(names).transpose()?.unwrap_or_default(),
                pins: context.map(pins).transpose()?.unwrap_or_default(),
                roots: match &combined.validation_context_sds_secret_config {
                    Some(secret) => RootSource::Sds(secret.name.clone()),
                    None => context.map(roots).transpose()?.unwrap_or_default(),
                },
            }
        }
        Some(_) => {
            let what = "a certificate provider";
            return Err(DecodeError::unsupported("validation_context", what));
        }
    };
    if !found.pins.is_empty() && found.roots == RootSource::None {
        let what = "pinning of certificates without trusted_ca";
        return Err(DecodeError::unsupported("validation_context", what));
    }
    if found.crl.is_some() && found.roots == RootSource::None {
        let what = "revocation without trusted_ca";
        return Err(DecodeError::unsupported("validation_context", what));
    }
    Ok(found)
}

fn crl(context: &pb::CertificateValidationContext) -> Result<Option<Data>> {
    let source = context.crl.as_ref();
    source.map(|source| Data::of("crl", source)).transpose()
}

fn pins(context: &pb::CertificateValidationContext) -> Result<Pins> {
    let certificates = context.verify_certificate_hash.iter().map(|text| {
        let digits: String = text.split(':').collect();
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let byte =
            |pair: &[u8]| u8::try_from(value(pair.first()?)? * 16 + value(pair.get(1)?)?).ok();
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        digest("verify_certificate_hash", text, bytes)
    });
    let keys = context.verify_certificate_spki.iter().map(|text| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
        digest("verify_certificate_spki", text, bytes)
    });
    Ok(Pins {
        certificates: certificates.collect::<Result<_>>()?,
        keys: keys.collect::<Result<_>>()?,
    })
}

fn digest(field: &str, text: &str, bytes: Option<Vec<u8>>) -> Result<[u8; 32]> {
    let digest = bytes.and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| DecodeError::new(field, format!("{text:?} is no SHA-256")))
}

fn roots(context: &pb::CertificateValidationContext) -> Result<RootSource> {
    match &context.trusted_ca {
        None => Ok(RootSource::None),
        Some(source) => Ok(RootSource::Given(Data::of("trusted_ca", source)?)),
    }
}

fn names(context: &pb::CertificateValidationContext) -> Result<Names> {
    // Fails closed: a restriction that we do not know is not dropped.
    if context.custom_validator_config.is_some()
        || context.max_verify_depth.is_some()
        || context
            .require_signed_certificate_timestamp
            .is_some_and(|required| required.value)
    {
        return Err(DecodeError::unsupported(
            "validation_context",
            "this restriction",
        ));
    }
    if context.system_root_certs.is_some() || context.ca_certificate_provider_instance.is_some() {
        return Err(DecodeError::unsupported(
            "validation_context",
            "roots of the system or of a provider",
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
    typed.chain(untyped).collect()
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

fn san_match(spec: &matcher::StringMatcher) -> Result<StringMatch> {
    use matcher::string_matcher::MatchPattern;
    match &spec.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(StringMatch::Exact(text.clone())),
        Some(MatchPattern::Prefix(text)) => Ok(StringMatch::Prefix(text.clone())),
        Some(MatchPattern::Suffix(text)) => Ok(StringMatch::Suffix(text.clone())),
        Some(MatchPattern::Contains(text)) => Ok(StringMatch::Contains(text.clone())),
        _ => Err(DecodeError::unsupported(
            "match_subject_alt_names",
            "this string matcher",
        )),
    }
}

/// A secret: a certificate with its key, or roots.
///
/// # Errors
/// On other kinds of secrets, and on ones without content.
pub fn secret(secret: &pb::Secret) -> Result<SecretData> {
    match &secret.r#type {
        Some(pb::secret::Type::TlsCertificate(spec)) => {
            Ok(SecretData::Certificate(certificate(spec)?))
        }
        Some(pb::secret::Type::ValidationContext(context))
            if !names(context)?.is_empty() || !pins(context)?.is_empty() =>
        {
            let what = "a restriction of names or certificates in a secret";
            Err(DecodeError::unsupported("validation_context", what))
        }
        Some(pb::secret::Type::ValidationContext(context)) => match roots(context)? {
            RootSource::Given(pem) => Ok(SecretData::Roots {
                pem,
                crl: crl(context)?,
            }),
            _ => Err(DecodeError::new("trusted_ca", "is required")),
        },
        _ => Err(DecodeError::unsupported("secret", "this kind of secret")),
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
        let signatures = pb::TlsParameters {
            signature_algorithms: names(&["rsa_pkcs1_sha1"]),
            ..Default::default()
        };
        check(signatures, "tls_params.signature_algorithms");
    }

    #[test]
    fn pins_are_digests() {
        let check = |hash: &str, key: &str, with_roots: bool| {
            let list = |text: &str| match text {
                "" => Vec::new(),
                text => vec![text.to_owned()],
            };
            let context = pb::CertificateValidationContext {
                trusted_ca: with_roots.then(|| lateen_xds::types::core::DataSource {
                    specifier: Some(
                        lateen_xds::types::core::data_source::Specifier::InlineString("x".into()),
                    ),
                    ..Default::default()
                }),
                verify_certificate_hash: list(hash),
                verify_certificate_spki: list(key),
                ..Default::default()
            };
            let kind = pb::common_tls_context::ValidationContextType::ValidationContext(context);
            let found = validation(&pb::CommonTlsContext {
                validation_context_type: Some(kind),
                ..Default::default()
            });
            found.map(|found| found.pins).map_err(|error| error.field)
        };
        let hex = "07".repeat(32);
        let pairs: Vec<_> = (0..32).map(|_| "07").collect();
        let key = base64::engine::general_purpose::STANDARD.encode([9; 32]);
        let expect = Pins {
            certificates: vec![[7; 32]],
            keys: vec![[9; 32]],
        };
        assert_eq!(check(&hex, &key, true), Ok(expect.clone()));
        assert_eq!(check(&pairs.join(":"), &key, true), Ok(expect));
        let field = |name: &str| Err(name.to_owned());
        assert_eq!(check("07", "", true), field("verify_certificate_hash"));
        // No sign stands for a digit.
        let signed = "+7".repeat(32);
        assert_eq!(check(&signed, "", true), field("verify_certificate_hash"));
        assert_eq!(check("", "x", true), field("verify_certificate_spki"));
        assert_eq!(check(&hex, "", false), field("validation_context"));
    }

    #[test]
    fn revocation_needs_roots() {
        let source = |text: &str| lateen_xds::types::core::DataSource {
            specifier: Some(
                lateen_xds::types::core::data_source::Specifier::InlineString(text.into()),
            ),
            ..Default::default()
        };
        let of = |roots: Option<&str>| {
            let context = pb::CertificateValidationContext {
                trusted_ca: roots.map(source),
                crl: Some(source("list")),
                ..Default::default()
            };
            let kind = pb::common_tls_context::ValidationContextType::ValidationContext(context);
            validation(&pb::CommonTlsContext {
                validation_context_type: Some(kind),
                ..Default::default()
            })
        };
        assert!(of(Some("x")).is_ok_and(|found| found.crl.is_some()));
        assert!(of(None).is_err_and(|error| error.field == "validation_context"));
    }

    #[test]
    fn a_server_may_have_several_certificates_and_a_client_one() {
        let common_tls_context = Some(context(pb::TlsParameters::default(), 2));
        let server = downstream(&pb::DownstreamTlsContext {
            common_tls_context: common_tls_context.clone(),
            ..Default::default()
        });
        assert_eq!(server.expect("valid").certs.len(), 2);
        let client = upstream(&pb::UpstreamTlsContext {
            common_tls_context,
            ..Default::default()
        });
        assert_eq!(client.expect_err("two").field, "tls_certificates");
    }
}
