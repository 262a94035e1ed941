//! `proxy-config secret`.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use lateen_tls::CertInfo;
use serde_json::Value;

use super::dump::{Dump, SECRETS};
use super::{DUMP, Target, list, named, text};
use crate::{
    cli::Global,
    output::{self, Format},
    table::Table,
};

/// The certificates that a proxy has, and waits for. Keys are not shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config secret deploy/productpage-v1\n  \
                  lateen proxy-config secret deploy/productpage-v1 -o json | \
                  jq -r '.dynamicActiveSecrets[0].secret.tlsCertificate.certificateChain.inlineBytes' | base64 -d")]
pub(super) struct Secret {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Secret {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        if self.output == Format::Short {
            output::print(table(&dump, SystemTime::now()));
            return Ok(());
        }
        let section = dump.sections(SECRETS).next();
        let section = section.map(|section| named("envoy.admin.v3.SecretsConfigDump", section));
        output::structured(&section.unwrap_or_default(), self.output)
    }
}

/// One row for each certificate: the own one of a chain, and each root.
pub(super) fn table(dump: &Dump, now: SystemTime) -> Table {
    let mut table = Table::new([
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ]);
    for (state, entry) in entries(dump) {
        let name = text(entry, "name");
        let (kind, certificates) = certificates(&entry["secret"]);
        let row = |valid: String, [serial, after, before]: [String; 3]| {
            let (name, kind, state) = (name.to_owned(), kind.to_owned(), state.to_owned());
            [name, kind, state, valid, serial, after, before]
        };
        if certificates.is_empty() {
            table.row(row("false".to_owned(), Default::default()));
        }
        for certificate in certificates {
            let valid = certificate.not_before <= now && now < certificate.not_after;
            let times = [certificate.not_after, certificate.not_before].map(output::time);
            let [after, before] = times;
            table.row(row(valid.to_string(), [certificate.serial, after, before]));
        }
    }
    table
}

/// Every secret with its state, those that are waited for first, as Istio lists them.
fn entries(dump: &Dump) -> Vec<(&'static str, &Value)> {
    let states = [
        ("dynamic_warming_secrets", "WARMING"),
        ("dynamic_active_secrets", "ACTIVE"),
        ("static_secrets", "ACTIVE"),
    ];
    let mut found = Vec::new();
    for section in dump.sections(SECRETS) {
        for (field, state) in states {
            found.extend(list(section, field).map(|entry| (state, entry)));
        }
    }
    found
}

/// What a secret is, and its certificates as far as they are in it.
fn certificates(secret: &Value) -> (&'static str, Vec<CertInfo>) {
    let certificate = &secret["tls_certificate"]["certificate_chain"];
    if !certificate.is_null() {
        let own = parse(certificate).into_iter().take(1).collect();
        return ("Cert Chain", own);
    }
    match roots_in(secret) {
        roots if roots.is_null() => ("", Vec::new()),
        roots => ("CA", parse(roots)),
    }
}

fn roots_in(secret: &Value) -> &Value {
    let context = &secret["validation_context"]["trusted_ca"];
    let combined = "/combined_validation_context/default_validation_context/trusted_ca";
    match context.is_null() {
        true => secret.pointer(combined).unwrap_or(&Value::Null),
        false => context,
    }
}

/// The certificates that are written in a source; a file of the proxy's cannot be read from here.
fn parse(source: &Value) -> Vec<CertInfo> {
    let written = match source["inline_string"].as_str() {
        Some(written) => written.to_owned(),
        None => {
            let bytes = STANDARD.decode(text(source, "inline_bytes"));
            String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
        }
    };
    CertInfo::all_from_pem(&written).unwrap_or_default()
}

/// The root certificates by which a proxy knows its peers.
pub(super) fn roots(dump: &Dump) -> Vec<CertInfo> {
    let all = entries(dump).into_iter();
    let own = all.filter(|(_, entry)| text(entry, "name") == "ROOTCA");
    own.flat_map(|(_, entry)| parse(roots_in(&entry["secret"])))
        .collect()
}
