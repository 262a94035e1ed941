//! The command line as a user meets it.

use std::process::{Command, Output};

fn lateen(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    let state = std::env::temp_dir().join(format!("lateen-cli-{}", std::process::id()));
    command
        .args(args)
        .env("XDG_STATE_HOME", state)
        .output()
        .expect("the binary was built")
}

fn stdout(args: &[&str]) -> String {
    let output = lateen(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refusal(args: &[&str]) -> String {
    let output = lateen(args);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_has_examples() {
    for command in [
        "up",
        "down",
        "status",
        "image",
        "kube-inject",
        "proxy-status",
        "proxy-config",
    ] {
        assert!(
            stdout(&[command, "--help"]).contains("Examples:"),
            "{command}"
        );
    }
}

#[test]
fn the_version_needs_no_cluster() {
    assert_eq!(
        stdout(&["version", "--remote=false"]).trim(),
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn completion_covers_the_commands() {
    assert!(stdout(&["completion", "bash"]).contains("proxy-config"));
}

/// Under another name, the script completes that name.
#[test]
fn completion_is_for_the_name_that_is_typed() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("istioctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lateen"), &link).expect("a link");
    for (shell, line) in [
        ("bash", "complete -F _istioctl"),
        ("zsh", "#compdef istioctl"),
        ("fish", "complete -c istioctl"),
    ] {
        let output = Command::new(&link).args(["completion", shell]).output();
        let output = output.expect("the binary was built");
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(script.contains(line), "{shell}: {script:.400}");
        let own = stdout(&["completion", shell]);
        assert!(own.contains(&line.replace("istioctl", "lateen")), "{shell}");
    }
}

#[test]
fn components_are_chosen_by_either_flag() {
    let all = stdout(&["manifest", "generate"]);
    let pilot = stdout(&["manifest", "generate", "--component", "Pilot"]);
    assert!(all.len() > pilot.len() && pilot.contains("kind: Deployment"));
    assert_eq!(
        stdout(&["manifest", "generate", "--filter", "Pilot"]),
        pilot
    );
    let two = stdout(&["manifest", "generate", "--filter", "Pilot,IngressGateways"]);
    assert!(two.len() > pilot.len() && two.len() < all.len());
    // What was installed is written down beside it, once.
    assert_eq!(all.matches("name: istio-installed-state").count(), 1);
}

#[test]
fn status_of_no_mesh_says_how_to_start_one() {
    assert!(refusal(&["status"]).contains("lateen up"));
}

#[test]
fn a_busy_port_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken
        .local_addr()
        .expect("a bound socket")
        .port()
        .to_string();
    let said = refusal(&["up", "--http-port", &port]);
    assert!(
        said.contains(&port) && said.contains("--http-port"),
        "{said}"
    );
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_eq!(lateen(&["upp"]).status.code(), Some(2));
}

#[test]
fn a_mesh_name_that_is_a_path_is_refused() {
    assert!(refusal(&["up", "--name", "../x"]).contains("../x"));
}

/// The namespace that a flag names, else the one of the context.
#[test]
fn a_context_says_which_namespace_is_meant() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("config");
    let text = "\
apiVersion: v1
kind: Config
current-context: ann
contexts:
- {name: ann, context: {cluster: here, user: ann, namespace: shop}}
- {name: bob, context: {cluster: here, user: ann}}
clusters: [{name: here, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: ann, user: {}}]
";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("a path");
    let row = |flags: &[&str]| {
        let command = ["x", "config", "list", "--kubeconfig", file];
        let said = stdout(&[&command[..], flags].concat());
        let row = said.lines().find(|line| line.starts_with("namespace"));
        let row = row.expect("a row").split_whitespace();
        row.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&[]), "namespace shop context");
    assert_eq!(row(&["-n", "default"]), "namespace default command line");
    assert_eq!(row(&["--context", "bob"]), "namespace default default");
}

#[test]
fn the_control_planes_namespace_counts_where_manifests_are_made() {
    let made = stdout(&[
        "manifest",
        "generate",
        "-i",
        "mesh",
        "--set",
        "profile=minimal",
    ]);
    assert!(made.contains("namespace: mesh\n"));
    // The record has the profile as it is written.
    assert!(!made.contains("\n  namespace: istio-system\n  "));
}

#[test]
fn profiles_that_differ_are_told_apart_by_the_status() {
    let output = lateen(&["profile", "diff", "default", "demo"]);
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("istio-egressgateway"), "{said}");
    stdout(&["profile", "diff", "demo", "demo"]);
}

/// One file for each, though some of them cannot be there together.
#[test]
fn addons_are_written_to_files_of_their_names() {
    let directory = tempfile::tempdir().expect("a folder");
    let to = directory.path().join("samples/addons");
    stdout(&["manifest", "addon", "-o", to.to_str().expect("a path")]);
    let files = std::fs::read_dir(&to).expect("the folder is there");
    let mut names: Vec<_> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    let all = [
        "grafana.yaml",
        "kiali.yaml",
        "prometheus.yaml",
        "servicegraph.yaml",
        "tracing.yaml",
        "zipkin.yaml",
    ];
    assert_eq!(names, all);
}
