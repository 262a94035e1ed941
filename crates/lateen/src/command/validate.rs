//! `lateen validate`: each document by itself, as the webhook would judge it.

use std::path::PathBuf;

use clap::Args;
use lateen_galley::analyze::{Code, Settings, analyze};
use lateen_galley::review;
use lateen_registry::{Documents, Written};

use super::analyze::documents;
use crate::output;

/// Check files of the mesh's objects, without a cluster.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen validate -f bookinfo-gateway.yaml\n  lateen validate -x -f services.yaml -f routes.yaml    References between them too\n  lateen validate -f - < routes.yaml"
)]
pub(crate) struct Validate {
    /// A file, a directory, or `-` for standard input.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Whether what documents refer to must be among them as well.
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    referential: bool,
}

/// What a file is told.
#[derive(Debug, Default)]
struct Judged {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Validate {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let texts = documents(&self.filename, false)?;
        let mut errors = Vec::new();
        let mut all = Vec::new();
        for text in &texts {
            let (written, judged) = judge(text);
            for warning in &judged.warnings {
                eprintln!("Warning: {warning}");
            }
            if judged.errors.is_empty() {
                output::line(format_args!("{:?} is valid", text.name));
            }
            errors.extend(judged.errors);
            all.extend(written);
        }
        if self.referential {
            errors.extend(references(&all));
        }
        match errors.len() {
            0 => Ok(()),
            1 => anyhow::bail!("1 error occurred:\n\t* {}", errors[0]),
            n => anyhow::bail!("{n} errors occurred:\n\t* {}", errors.join("\n\t* ")),
        }
    }
}

fn judge(text: &Documents) -> (Vec<Written>, Judged) {
    let (written, unreadable) = Written::read(text);
    let mut judged = Judged {
        errors: unreadable,
        ..Judged::default()
    };
    for document in &written {
        let value = &document.value;
        let name = |at: &str| value["metadata"][at].as_str().unwrap_or_default();
        let kind = value["kind"].as_str().unwrap_or_default();
        let who = format!("{kind} {}/{}", name("namespace"), name("name"));
        let place = |field: &str| document.place(field).unwrap_or_default();
        if kind.is_empty() || value["apiVersion"].as_str().is_none() {
            let reason = "is no object: kind or apiVersion is missing; write both";
            judged.errors.push(format!("{}: {reason}", place("")));
            continue;
        }
        let (faults, warnings) = review(value);
        let faults = faults
            .iter()
            .map(|fault| format!("{}: {who}: {fault}", place(&fault.field)));
        judged.errors.extend(faults);
        let warnings = warnings.iter().map(|warning| {
            let field = warning.split_once(": ").map_or("", |(field, _)| field);
            format!("{}: {who}: {warning}", place(field))
        });
        judged.warnings.extend(warnings);
    }
    (written, judged)
}

/// What documents refer to and is not among them.
fn references(all: &[Written]) -> Vec<String> {
    let messages = analyze(all, &Settings::default());
    let missing = messages
        .iter()
        .filter(|message| message.code == Code::ReferencedResourceNotFound);
    let line = |message: &lateen_galley::analyze::Message| {
        let at = message.reference.clone().unwrap_or_default();
        format!("{at}: {}: {}", message.origin(), message.text)
    };
    missing.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: a}
spec:
  hosts: [a]
  http:
  - route:
    - destination: {host: gone}
";

    #[test]
    fn faults_have_their_place() {
        let text = format!("{ROUTE}    retries: {{attemts: 2}}\n---\nhello: world\n");
        let (_, judged) = judge(&Documents::file("f.yaml", text));
        assert_eq!(
            judged.errors,
            [
                "f.yaml:9: VirtualService a/v: spec.http[0].retries.attemts: unknown field; did you \
                 mean attempts?",
                "f.yaml:11: is no object: kind or apiVersion is missing; write both",
            ]
        );
        let (_, judged) = judge(&Documents::file("f.yaml", ROUTE));
        assert_eq!(judged.errors, Vec::<String>::new());
        let (_, judged) = judge(&Documents::file("f.yaml", "kind: ["));
        assert!(judged.errors[0].starts_with("f.yaml:1: "), "{judged:?}");
    }

    #[test]
    fn references_are_looked_up_when_that_is_asked_for() {
        let (written, _) = judge(&Documents::file("f.yaml", ROUTE));
        let missing = references(&written);
        assert_eq!(missing.len(), 1);
        assert!(
            missing[0]
                .starts_with("f.yaml:8: VirtualService a/v: Referenced host not found: \"gone\"")
        );
    }

    #[test]
    fn warnings_are_told_with_their_place() {
        let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  \
            selector: {a: b}\n  servers:\n  - hosts: [h]\n    port: {number: 80, name: a, protocol: HTTP}\n    \
            defaultEndpoint: 127.0.0.1:80\n";
        let (_, judged) = judge(&Documents::file("f.yaml", text));
        assert_eq!(judged.errors, Vec::<String>::new());
        let expect = "f.yaml:9: Gateway /g: spec.servers[0].defaultEndpoint: ";
        assert!(judged.warnings[0].starts_with(expect), "{judged:?}");
    }
}
