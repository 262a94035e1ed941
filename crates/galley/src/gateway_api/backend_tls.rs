//! BackendTLSPolicy: the TLS that gateways speak to a backend.
//!
//! A policy becomes a subset of its Service, which the routes of gateways lead to: what others do with
//! the Service stays as it is.

use std::collections::BTreeSet;

use lateen_api::{
    Meta, Object,
    gateway_api::{
        BackendTlsPolicy, BackendTlsPolicyValidation, GROUP, LocalObjectReference, ParentReference,
        PolicyAncestorStatus, PolicyStatus, PolicyTargetReference, SubjectAltNameType,
    },
    kinds::gateway_api::BACKEND_TLS_POLICY,
    networking::{ClientTlsMode, ClientTlsSettings, DestinationRule, Subset, TrafficPolicy},
    status::Condition,
};
use lateen_core::{Hostname, ObjectRef};

use super::{
    Around, BACKEND_TLS, CONTROLLER, ROOTS, Translation,
    conditions::{Verdict, holds},
    gateways::Gateways,
    roots,
    routes::Rules,
    status::said,
};
use crate::RootsKind;

type Policy = Object<BackendTlsPolicy>;

/// Where the well-known roots are on the proxies' machine: Debian's file.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// More ancestors a status cannot have.
const MAX_ANCESTORS: usize = 16;

impl<'a> Around<'a> {
    /// The policy for a port of a Service: one that names the port, else one for all; of several the
    /// oldest.
    pub(super) fn tls_policy(
        self,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Option<&'a Policy> {
        let policies = self.objects.backend_tls_policies.values();
        let policies = policies.map(AsRef::as_ref);
        let policies = policies.filter(|policy: &&'a Policy| policy.meta.namespace == namespace);
        let ranked = policies.flat_map(|policy| {
            let targets = services(policy).filter(|target| target.name == service);
            let sections = targets.map(section);
            let meant = sections.filter(|section| section.is_none_or(|named| named == port));
            meant.map(move |section| ((section.is_none(), age(policy)), policy))
        });
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, policy)| policy)
    }

    /// The older policy for the same target.
    fn rival(self, policy: &Policy, target: &PolicyTargetReference) -> Option<&'a Policy> {
        let policies = self.objects.backend_tls_policies.values();
        let rivals = policies.map(AsRef::as_ref).filter(|other: &&'a Policy| {
            let same = |of: &PolicyTargetReference| {
                of.name == target.name && section(of) == section(target)
            };
            other.meta.namespace == policy.meta.namespace && services(other).any(same)
        });
        rivals
            .min_by_key(|other| age(other))
            .filter(|first| age(first) < age(policy))
    }
}

/// What a policy is for; nothing but Services is supported.
fn services(policy: &Policy) -> impl Iterator<Item = &PolicyTargetReference> {
    let targets = policy.spec.target_refs.iter();
    targets.filter(|of| of.group.as_deref().unwrap_or_default().is_empty() && of.kind == "Service")
}

fn section(of: &PolicyTargetReference) -> Option<&str> {
    of.section_name.as_deref().filter(|name| !name.is_empty())
}

/// The order in which policies win.
fn age(policy: &Policy) -> impl Ord + Copy + '_ {
    let created = policy.meta.creation_timestamp;
    (
        created.is_none(),
        created,
        &*policy.meta.namespace,
        &*policy.meta.name,
    )
}

/// The subset that stands for a policy.
pub(super) fn subset(policy: &Policy) -> String {
    format!("backend-tls-{}", policy.meta.name)
}

/// What a policy trusts.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Why its backends cannot be called.
    pub(super) refused: Option<Verdict>,
    unresolved: Option<Verdict>,
    /// The objects that roots are in.
    roots: Vec<(RootsKind, String)>,
}

impl Trust {
    pub(super) fn of(around: Around<'_>, policy: &Policy) -> Self {
        let mut trust = Trust::default();
        let none = BackendTlsPolicyValidation::default();
        let validation = policy.spec.validation.as_ref().unwrap_or(&none);
        for to in &validation.ca_certificate_refs {
            match referred(around, &policy.meta.namespace, to) {
                Ok(kind) => trust.roots.push((kind, to.name.clone())),
                Err(verdict) => drop(trust.unresolved.get_or_insert(verdict)),
            }
        }
        let invalid = |message: String| Some(Verdict::new("Invalid", message));
        let option = policy.spec.options.keys().next();
        trust.refused = match validation.well_known_c_a_certificates.as_deref() {
            _ if option.is_some() => invalid(format!(
                "option {} is not supported",
                option.map_or("", String::as_str)
            )),
            Some("System") => None,
            Some(other) => invalid(format!("wellKnownCACertificates {other} is not supported")),
            None if trust.roots.is_empty() => {
                let message = "no caCertificateRef leads to roots";
                Some(Verdict::new("NoValidCACertificate", message))
            }
            None => None,
        };
        trust
    }

    fn tls(&self, policy: &Policy) -> ClientTlsSettings {
        let none = BackendTlsPolicyValidation::default();
        let validation = policy.spec.validation.as_ref().unwrap_or(&none);
        let of = |(kind, name): &(RootsKind, String)| {
            format!("{}/{}/{name}", kind.as_str(), policy.meta.namespace)
        };
        let roots: Vec<String> = self.roots.iter().map(of).collect();
        let names = validation.subject_alt_names.iter();
        let names = names.filter_map(|name| match name.r#type {
            SubjectAltNameType::Hostname => name.hostname.clone(),
            SubjectAltNameType::Uri => name.uri.clone(),
        });
        let names = match validation.subject_alt_names.is_empty() {
            true => vec![validation.hostname.clone()],
            false => names.collect(),
        };
        let mut tls = ClientTlsSettings {
            mode: ClientTlsMode::Simple,
            sni: validation.hostname.clone(),
            subject_alt_names: names,
            ..ClientTlsSettings::default()
        };
        match roots.is_empty() {
            true => tls.ca_certificates = SYSTEM_ROOTS.into(),
            false => tls.credential_name = format!("{ROOTS}{}", roots.join(",")),
        }
        tls
    }
}

fn referred(
    around: Around<'_>,
    namespace: &str,
    to: &LocalObjectReference,
) -> Result<RootsKind, Verdict> {
    let group = to.group.as_deref().unwrap_or_default();
    let kind = roots::kind(group, &to.kind, &to.name, "InvalidKind")?;
    roots::check(around, kind, namespace, &to.name)?;
    Ok(kind)
}

/// Subsets, leave to have roots, and what is said of each policy at the Gateways whose routes lead to
/// what it is for.
pub(super) fn write(
    around: Around<'_>,
    gateways: &Gateways<'_>,
    rules: &Rules,
    out: &mut Translation,
) {
    for policy in around.objects.backend_tls_policies.values() {
        let meta = &policy.meta;
        let trust = Trust::of(around, policy);
        let mut status = PolicyStatus::default();
        let mut called = BTreeSet::new();
        for (gateway, led) in &rules.led {
            let is_led = |target: &&PolicyTargetReference| {
                led.contains(&(meta.namespace.clone(), target.name.clone()))
            };
            let targets: Vec<_> = services(policy).filter(is_led).collect();
            if targets.is_empty() {
                continue;
            }
            called.extend(targets.iter().map(|target| &target.name));
            let rival = targets
                .iter()
                .find_map(|target| around.rival(policy, target));
            let rival = rival.map(|rival| {
                let message = format!("BackendTLSPolicy {} is older", rival.meta.name);
                Verdict::new("Conflicted", message)
            });
            let (namespace, name) = gateway;
            let of = ancestor("Gateway", Some(GROUP.into()), namespace, name);
            status.ancestors.push(PolicyAncestorStatus {
                ancestor_ref: Some(of),
                controller_name: CONTROLLER.into(),
                conditions: conditions(&trust, rival.as_ref(), meta.generation),
            });
            if trust.refused.is_none() {
                for (kind, name) in &trust.roots {
                    gateways.grant_roots(gateway, *kind, (&meta.namespace, name), out);
                }
            }
        }
        status.ancestors.extend(unsupported(policy));
        status.ancestors.truncate(MAX_ANCESTORS);
        if trust.refused.is_none() {
            let rules = called
                .into_iter()
                .map(|to| rule(around, policy, &trust, to));
            out.destination_rules.extend(rules);
        }
        let key = ObjectRef::new(BACKEND_TLS_POLICY.id(), &meta.namespace, &meta.name);
        out.statuses.insert(key, said(&status, meta.generation));
    }
}

fn conditions(trust: &Trust, rival: Option<&Verdict>, generation: i64) -> Vec<Condition> {
    vec![
        holds(
            "Accepted",
            trust.refused.as_ref().or(rival),
            ("Accepted", "Policy is in force"),
            generation,
        ),
        holds(
            "ResolvedRefs",
            trust.unresolved.as_ref(),
            ("ResolvedRefs", "All references resolved"),
            generation,
        ),
    ]
}

/// Targets that no gateway can have anything to do with: they are told of by themselves.
fn unsupported(policy: &Policy) -> impl Iterator<Item = PolicyAncestorStatus> + '_ {
    let targets = policy.spec.target_refs.iter();
    let others = targets.filter(|target| !services(policy).any(|of| of == *target));
    others.map(|target| {
        let message = format!(
            "{} {}: only Services are supported",
            target.kind, target.name
        );
        let verdict = Verdict::new("TargetNotFound", message);
        let namespace = &policy.meta.namespace;
        PolicyAncestorStatus {
            ancestor_ref: Some(ancestor(
                &target.kind,
                target.group.clone(),
                namespace,
                &target.name,
            )),
            controller_name: CONTROLLER.into(),
            conditions: vec![verdict.no("Accepted", policy.meta.generation)],
        }
    })
}

fn ancestor(kind: &str, group: Option<String>, namespace: &str, name: &str) -> ParentReference {
    ParentReference {
        group,
        kind: Some(kind.into()),
        namespace: Some(namespace.into()),
        name: name.into(),
        section_name: None,
        port: None,
    }
}

fn rule(around: Around<'_>, policy: &Policy, trust: &Trust, to: &str) -> Object<DestinationRule> {
    let meta = &policy.meta;
    let host = Hostname::service(to, &meta.namespace, around.domain);
    let spec = DestinationRule {
        host: host.to_string(),
        subsets: vec![Subset {
            name: subset(policy),
            traffic_policy: Some(TrafficPolicy {
                tls: Some(trust.tls(policy)),
                ..TrafficPolicy::default()
            }),
            ..Subset::default()
        }],
        export_to: vec!["*".into()],
        ..DestinationRule::default()
    };
    let meta = Meta {
        name: format!("{}~{to}", meta.name),
        namespace: meta.namespace.clone(),
        annotations: [(BACKEND_TLS.to_owned(), meta.name.clone())].into(),
        creation_timestamp: meta.creation_timestamp,
        ..Meta::default()
    };
    Object { meta, spec }
}
