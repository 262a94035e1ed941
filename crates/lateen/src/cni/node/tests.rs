use std::collections::BTreeMap;

use super::*;

struct OnNode {
    folder: tempfile::TempDir,
    node: Node,
}

impl OnNode {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "net"] {
            fs::create_dir(at(name)).expect("made");
        }
        fs::write(at("program"), "1").expect("written");
        for (name, text) in files {
            fs::write(at("net").join(name), text).expect("written");
        }
        let node = Node {
            programs: at("bin"),
            networks: at("net"),
            networks_of_node: "/etc/cni/net.d".into(),
            file: None,
            is_chained: true,
            excluded: vec!["kube-system".into()],
        };
        Self { folder, node }
    }

    fn install(&self, token: &str) -> anyhow::Result<bool> {
        self.look(token, false)
    }

    fn look(&self, token: &str, first: bool) -> anyhow::Result<bool> {
        let access = Access {
            host: "10.96.0.1".into(),
            port: "443".into(),
            root: b"PEM".to_vec(),
            token: token.into(),
        };
        self.node
            .install(&self.folder.path().join("program"), &access, first)
    }

    fn networks(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(&self.node.networks).expect("a folder");
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.expect("a file");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read_to_string(entry.path()).expect("a text"))
        };
        entries.map(read).collect()
    }

    fn plugins(&self, file: &str) -> Vec<String> {
        let text = &self.networks()[file];
        let network: Value = serde_json::from_str(text).expect("JSON");
        let plugins = network["plugins"].as_array().expect("a list").iter();
        plugins
            .map(|plugin| plugin["type"].as_str().expect("a type").to_owned())
            .collect()
    }
}

const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "k8s", "plugins": [{"type": "bridge"}]}"#;
const SINGLE: &str = r#"{"cniVersion": "0.3.1", "name": "k8s", "type": "ptp"}"#;

#[test]
fn a_list_has_the_plugin_until_it_goes() {
    let on = OnNode::new(&[
        ("20-later.conflist", LIST),
        ("10-k8s.conflist", LIST),
        ("README", "x"),
    ]);
    assert!(on.install("a").expect("installed"));
    assert!(
        !on.install("a").expect("installed"),
        "nothing is to be done"
    );
    assert_eq!(on.plugins("10-k8s.conflist"), ["bridge", PLUGIN]);
    assert_eq!(on.plugins("20-later.conflist"), ["bridge"]);
    assert_eq!(mode(&on.node.programs.join(PLUGIN)), 0o755);
    let kubeconfig = on.node.networks.join(kubeconfig::FILE);
    assert_eq!(mode(&kubeconfig), 0o600);
    // A renewed token, a network that was made anew, and another one that now comes first.
    assert!(on.install("b").expect("installed"));
    assert!(on.networks()[kubeconfig::FILE].contains("\"b\""));
    fs::write(on.node.networks.join("10-k8s.conflist"), LIST).expect("written");
    assert!(on.install("b").expect("installed"));
    fs::write(on.node.networks.join("00-first.conflist"), LIST).expect("written");
    assert!(on.install("b").expect("installed"));
    assert_eq!(on.plugins("00-first.conflist"), ["bridge", PLUGIN]);
    // A program that is gone comes back, and another version's is replaced at the first look.
    let program = on.node.programs.join(PLUGIN);
    fs::remove_file(&program).expect("it was there");
    assert!(on.install("b").expect("installed"));
    fs::write(&program, "0").expect("written");
    assert!(!on.install("b").expect("installed"));
    assert!(on.look("b", true).expect("installed"));
    assert_eq!(fs::read_to_string(&program).expect("a text"), "1");
    on.node.remove().expect("removed");
    let left = on.networks();
    let names: Vec<&str> = left.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "00-first.conflist",
            "10-k8s.conflist",
            "20-later.conflist",
            "README"
        ]
    );
    for name in &names[..3] {
        assert_eq!(on.plugins(name), ["bridge"], "{name}");
    }
    assert!(!program.exists());
    on.node.remove().expect("nothing is left to be removed");
}

#[test]
fn a_single_plugin_comes_back() {
    let on = OnNode::new(&[("10-k8s.conf", SINGLE)]);
    on.install("a").expect("installed");
    assert_eq!(on.plugins("10-k8s.conflist"), ["ptp", PLUGIN]);
    assert!(
        !on.networks().contains_key("10-k8s.conf"),
        "it would come first"
    );
    assert!(
        !on.install("a").expect("installed"),
        "nothing is to be done"
    );
    on.node.remove().expect("removed");
    let left = on.networks();
    assert_eq!(
        left.into_iter().collect::<Vec<_>>(),
        [("10-k8s.conf".to_owned(), SINGLE.to_owned())]
    );
}

#[test]
fn a_network_of_its_own_is_a_file_of_its_own() {
    let mut on = OnNode::new(&[("10-k8s.conflist", LIST)]);
    on.node.is_chained = false;
    on.node.file = Some("istio-cni.conf".into());
    on.install("a").expect("installed");
    assert_eq!(on.plugins("10-k8s.conflist"), ["bridge"]);
    let own: Value = serde_json::from_str(&on.networks()["istio-cni.conf"]).expect("JSON");
    assert_eq!(
        (&own["type"], &own["name"]),
        (&json!(PLUGIN), &json!(PLUGIN))
    );
    assert_eq!(
        own["kubernetes"]["kubeconfig"],
        "/etc/cni/net.d/ZZZ-istio-cni-kubeconfig"
    );
    on.node.remove().expect("removed");
    assert_eq!(
        on.networks().keys().collect::<Vec<_>>(),
        ["10-k8s.conflist"]
    );
}

#[test]
fn without_a_network_it_waits() {
    let mut on = OnNode::new(&[("README", "x")]);
    let error = on.install("a").expect_err("nothing to be in");
    assert!(
        error
            .to_string()
            .contains("no network in /etc/cni/net.d yet"),
        "{error}"
    );
    on.node.file = Some("10-k8s.conf".into());
    let error = on.install("a").expect_err("nothing to be in");
    assert!(error.to_string().contains("CNI_CONF_NAME"), "{error}");
    fs::write(on.node.networks.join("10-k8s.conf"), SINGLE).expect("written");
    on.install("a").expect("installed");
    on.install("a").expect("the list stands for it");
    assert_eq!(on.plugins("10-k8s.conflist"), ["ptp", PLUGIN]);
}
