use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    analyze: Analyze,
}

fn parse(args: &[&str]) -> Line {
    let line = Line::try_parse_from(["analyze"].iter().chain(args));
    let line = line.expect("arguments");
    Line {
        global: line.global.settled(),
        ..line
    }
}

/// The status of the process, for files of which each has a text.
async fn status(texts: &[(&str, &str)], args: &[&str]) -> u8 {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in texts {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    let dir = dir.path().display().to_string();
    let args: Vec<&str> = ["-k=false", &dir]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let line = parse(&args);
    match line.analyze.run(&line.global).await {
        Ok(()) => 0,
        Err(error) => error
            .downcast_ref::<Failed>()
            .map_or(1, |failed| failed.status),
    }
}

const BAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
    spec: {hosts: [a], http: [{route: [{destination: {host: gone}}]}]}\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

#[tokio::test]
async fn scripts_are_told_by_the_status() {
    let bad = ("bad.yaml", BAD);
    assert_eq!(status(&[bad], &[]).await, FOUND_ISSUES);
    assert_eq!(
        status(&[bad], &["-S", "IST0101=VirtualService v.default"]).await,
        0
    );
    assert_eq!(
        status(
            &[bad],
            &["-n", "shop", "-S", "IST0101=VirtualService v.default"]
        )
        .await,
        FOUND_ISSUES
    );
    let namespace = ("namespace.yaml", NAMESPACE);
    assert_eq!(status(&[namespace], &[]).await, 0);
    assert_eq!(
        status(&[namespace], &["--failure-threshold", "info"]).await,
        FOUND_ISSUES
    );
    let unheard = [
        "--failure-threshold",
        "Info",
        "--output-threshold",
        "Warning",
    ];
    assert_eq!(status(&[namespace], &unheard).await, 0);
    let unreadable = ("broken.yaml", "kind: [\n");
    assert_eq!(status(&[unreadable, namespace], &[]).await, UNREADABLE);
    assert_eq!(
        status(&[unreadable, namespace], &["--ignore-unknown"]).await,
        0
    );
}

#[test]
fn flags_are_istioctls() {
    let line = parse(&["a.yaml", "-A", "--use-kube=false", "-R", "-o", "json"]);
    let analyze = line.analyze;
    assert!(analyze.all_namespaces && !analyze.use_kube && analyze.recursive);
    assert_eq!(analyze.output, Output::Json);
    assert!(parse(&["-k"]).analyze.use_kube);
    assert!(parse(&[]).analyze.use_kube);
    assert!(listed().contains("* virtualservice.GatewayAnalyzer:\n    "));
}

#[test]
fn files_take_the_place_of_what_is_stored_and_are_heard_in_any_namespace() {
    let line = parse(&["-n", "shop"]);
    let message = |namespace: &str, reference: Option<&str>| Message {
        code: lateen_galley::analyze::Code::ReferencedResourceNotFound,
        text: String::new(),
        group: "networking.istio.io".to_owned(),
        kind: "Gateway".to_owned(),
        namespace: namespace.to_owned(),
        name: "g".to_owned(),
        field: String::new(),
        reference: reference.map(str::to_owned),
    };
    let heard = |message: &Message| line.analyze.is_reported(message, &line.global);
    assert!(heard(&message("shop", None)));
    assert!(heard(&message("other", Some("f.yaml:1"))));
    assert!(!heard(&message("other", None)));
    assert!(heard(&message("", None)));
}

#[tokio::test]
async fn directories_are_read_with_what_is_below_when_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("below")).expect("a directory");
    std::fs::write(dir.path().join("below/bad.yml"), BAD).expect("a file");
    std::fs::write(dir.path().join("note.txt"), "kind: [").expect("a file");
    let paths = [dir.path().to_owned()];
    assert_eq!(documents(&paths, false).expect("readable").len(), 0);
    let all = documents(&paths, true).expect("readable");
    assert_eq!(all.len(), 1);
    assert!(all[0].name.ends_with("below/bad.yml"), "{}", all[0].name);
    let missing = [dir.path().join("none.yaml")];
    let error = documents(&missing, true).expect_err("not there");
    assert!(error.to_string().contains("none.yaml"), "{error}");
}
