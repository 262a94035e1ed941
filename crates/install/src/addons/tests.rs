use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};

use lateen_testkit::{find_tool, not_checked};

use super::*;
use crate::{KINDS, OWNER, OWNER_NAMESPACE, REVISION};

fn parts() -> Vec<Part> {
    let installation = Installation::default();
    let one = |addon| addon_parts(&installation, &[addon]).expect("an addon");
    Addon::all().flat_map(one).collect()
}

fn of_kind<'a>(parts: &'a [Part], kind: &str) -> Vec<&'a Value> {
    let all = parts.iter().flat_map(|part| &part.objects);
    all.filter(|object| object["kind"] == kind).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn addons_have_names() {
    for (name, addon) in ALL {
        assert_eq!(Addon::named(name).expect("an addon"), addon);
        assert_eq!(addon.name(), name);
    }
    assert_eq!(Addon::named("jaeger").expect("an addon"), Addon::Tracing);
    let message = |name| Addon::named(name).expect_err("refused").to_string();
    assert_eq!(
        message("promethues"),
        "there is no addon \"promethues\"; did you mean prometheus?"
    );
    assert!(message("skywalking").contains("known here: prometheus, grafana, tracing"));
}

#[test]
fn two_servers_of_one_name_are_refused() {
    let both = [Addon::Zipkin, Addon::Tracing];
    let error = addon_parts(&Installation::default(), &both).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the addon tracing beside zipkin is not supported: both are the Service zipkin; choose one of them"
    );
}

#[test]
fn an_addon_is_of_no_revision_and_known_by_its_labels() {
    let installation = Installation::of(&crate::Layers {
        sets: vec!["revision=canary".to_owned(), "namespace=mesh".to_owned()],
        ..crate::Layers::default()
    });
    let installation = installation.expect("an installation");
    let parts = addon_parts(&installation, &[Addon::Grafana]).expect("an addon");
    assert_eq!(parts[0].component, "Grafana");
    for object in &parts[0].objects {
        let labels = &object["metadata"]["labels"];
        assert_eq!(object["metadata"]["namespace"], "mesh");
        assert_eq!(labels[OWNER], "addon-grafana");
        assert_eq!(labels[OWNER_NAMESPACE], "mesh");
        assert_eq!(labels[REVISION], Value::Null);
        let kind = (text(&object["apiVersion"]), text(&object["kind"]));
        assert!(KINDS.contains(&kind), "{kind:?} would not be removed");
    }
    let selector = Addon::Grafana.selector("mesh");
    assert!(
        selector.contains("owning-resource=addon-grafana"),
        "{selector}"
    );
    // What the mesh's own installation takes for surplus is of a revision.
    assert!(crate::owned_alike(&installation).contains("istio.io/rev=canary"));
}

#[test]
fn objects_are_what_kubernetes_types_say() {
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(manifest: &Value) {
        let typed: T = serde_json::from_value(manifest.clone()).expect("of its type");
        assert_eq!(serde_json::to_value(typed).expect("JSON"), *manifest);
    }
    for object in parts().iter().flat_map(|part| &part.objects) {
        match text(&object["kind"]) {
            "Deployment" => same::<Deployment>(object),
            "Service" => same::<Service>(object),
            "ConfigMap" => same::<ConfigMap>(object),
            "ServiceAccount" => same::<ServiceAccount>(object),
            "ClusterRole" => same::<ClusterRole>(object),
            "ClusterRoleBinding" => same::<ClusterRoleBinding>(object),
            other => panic!("a {other} is not checked"),
        }
    }
}

#[test]
fn services_have_the_names_and_ports_that_users_know() {
    let parts = parts();
    let mut found = BTreeMap::new();
    for service in of_kind(&parts, "Service") {
        let ports = list(&service["spec"]["ports"]).iter();
        let ports: BTreeSet<u64> = ports.filter_map(|port| port["port"].as_u64()).collect();
        let known: &mut BTreeSet<u64> =
            found.entry(text(&service["metadata"]["name"])).or_default();
        known.extend(ports);
        assert_eq!(service["spec"]["type"], "ClusterIP");
    }
    for (name, port) in [
        ("prometheus", 9090),
        ("grafana", 3000),
        ("tracing", 80),
        ("zipkin", 9411),
        ("jaeger-collector", 9411),
        ("kiali", 20001),
        ("servicegraph", 8088),
    ] {
        assert!(
            found.get(name).is_some_and(|ports| ports.contains(&port)),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn services_lead_to_ports_that_pods_have() {
    for part in parts() {
        let part = [part];
        let deployment = of_kind(&part, "Deployment")[0];
        let pod = &deployment["spec"]["template"];
        let container = &pod["spec"]["containers"][0];
        let ports: Vec<&Value> = list(&container["ports"])
            .iter()
            .map(|port| &port["containerPort"])
            .collect();
        assert!(ports.contains(&&container["readinessProbe"]["httpGet"]["port"]));
        for service in of_kind(&part, "Service") {
            let selector = service["spec"]["selector"].as_object().expect("a selector");
            for (key, value) in selector {
                assert_eq!(pod["metadata"]["labels"][key], *value);
            }
            for port in list(&service["spec"]["ports"]) {
                assert!(ports.contains(&&port["targetPort"]), "{port}");
            }
        }
        // Each file and folder that is mounted is there, and the other way round.
        let names = |of: &Value| -> BTreeSet<String> {
            list(of)
                .iter()
                .map(|it| text(&it["name"]).to_owned())
                .collect()
        };
        assert_eq!(
            names(&container["volumeMounts"]),
            names(&pod["spec"]["volumes"])
        );
    }
}

#[test]
fn pods_may_do_little() {
    let parts = parts();
    for deployment in of_kind(&parts, "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_ne!(pod["securityContext"]["runAsUser"], 0);
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        assert!(container["resources"]["limits"]["memory"].is_string());
        let image = text(&container["image"]);
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        let is_pinned = tag.is_some_and(|tag| tag.chars().filter(|c| *c == '.').count() == 2);
        assert!(is_pinned, "{image}");
    }
    // Whoever needs the API server reads there, and nobody reads Secrets.
    for role in of_kind(&parts, "ClusterRole") {
        for rule in list(&role["rules"]) {
            assert_eq!(rule["verbs"], serde_json::json!(["get", "list", "watch"]));
            let resources = rule["resources"].to_string();
            assert!(!resources.contains("secrets"), "{resources}");
            assert!(
                rule["apiGroups"][0] != "" || !resources.contains('*'),
                "{resources}"
            );
        }
    }
    for deployment in of_kind(&parts, "Deployment") {
        let name = text(&deployment["metadata"]["name"]);
        let has_role = of_kind(&parts, "ClusterRoleBinding")
            .iter()
            .any(|binding| binding["subjects"][0]["name"] == name);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], has_role, "{name}");
    }
}

#[test]
fn dashboards_can_be_drawn() {
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in grafana::DASHBOARDS {
        let board: Value = serde_json::from_str(text).expect(file);
        let uid = board["uid"].as_str().expect("an identifier").to_owned();
        assert_eq!(format!("{uid}.json"), file);
        assert!(ids.insert(uid));
        titles.insert(board["title"].as_str().expect("a title").to_owned());
        let mut cells = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for panel in list(&board["panels"]) {
            assert!(
                numbers.insert(panel["id"].as_u64().expect("a number")),
                "{file}"
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{file}: {panel}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        cells.insert((x, y)),
                        "{file}: {} lies over another",
                        panel["title"]
                    );
                }
            }
            let is_row = panel["type"] == "row";
            assert_ne!(list(&panel["targets"]).is_empty(), !is_row, "{file}");
        }
    }
    for title in [
        "Mesh",
        "Service",
        "Workload",
        "Performance",
        "Control Plane",
    ] {
        assert!(
            titles.contains(&format!("Istio {title} Dashboard")),
            "{title}"
        );
    }
}

/// What dashboards ask, with their variables filled in.
fn questions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (file, text) in grafana::DASHBOARDS {
        let board: Value = serde_json::from_str(text).expect(file);
        for panel in list(&board["panels"]) {
            for target in list(&panel["targets"]) {
                let question = target["expr"].as_str().expect("a question");
                let question = question.replace("$__rate_interval", "1m").replace('$', "");
                let place = format!("{file}: {}", panel["title"]);
                all.push((place, question));
            }
        }
    }
    all
}

/// What alerts ask.
fn alerts() -> Vec<(String, String)> {
    let rules: Value = serde_saphyr::from_str(prometheus::ALERTS).expect("YAML");
    let groups = list(&rules["groups"]).iter();
    let rules = groups.flat_map(|group| list(&group["rules"]).iter());
    rules
        .map(|rule| {
            (
                text(&rule["alert"]).to_owned(),
                text(&rule["expr"]).to_owned(),
            )
        })
        .collect()
}

/// Names of metrics in an expression: words that are no function, no label and no keyword.
fn metrics(expression: &str) -> BTreeSet<String> {
    let mut text = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    for (open, close) in [("by (", ')'), ("{", '}'), ("[", ']')] {
        while let Some((before, behind)) = text.split_once(open) {
            let behind = behind.split_once(close).expect("closed").1;
            text = format!("{before}{}", behind.trim_start());
        }
    }
    // A function is what stands before a bracket.
    let text = text.replace(" (", "(");
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '('));
    let words = words.flat_map(|words| words.split_inclusive('('));
    let names = words.filter(|word| {
        let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic());
        is_word && !word.ends_with('(') && !matches!(*word, "and" | "or" | "unless")
    });
    names.map(str::to_owned).collect()
}

#[test]
fn names_are_found_in_expressions() {
    let of = |text: &str| metrics(text).into_iter().collect::<Vec<_>>();
    assert_eq!(
        of("sum by (a, b) (rate(x_total{l=\"y\"}[5m])) / sum(z) > 30 * 86400"),
        ["x_total", "z"]
    );
    assert_eq!(of("absent(up{job=\"istiod\"} == 1) or vector(0)"), ["up"]);
    assert_eq!(of("(r > 0) - time() < 7 * 86400"), ["r"]);
    assert_eq!(
        of("histogram_quantile(0.99, sum by (le) (rate(m_bucket[5m]))) > 1"),
        ["m_bucket"]
    );
}

/// The metrics that the documentation has, which a test on a mesh compares with what there is.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../../../docs/metrics.md");
    let mut names = BTreeSet::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = row.split('`').next().expect("a name");
        if row
            .split('|')
            .nth(1)
            .is_some_and(|kind| kind.trim() == "histogram")
        {
            names.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        }
        names.insert(name.to_owned());
    }
    names
}

#[test]
fn dashboards_and_alerts_name_metrics_that_there_are() {
    let documented = documented();
    assert!(documented.len() > 50, "{documented:?}");
    for (place, question) in questions().into_iter().chain(alerts()) {
        for name in metrics(&question) {
            // Prometheus' own.
            let is_known = name == "up" || documented.contains(&name);
            assert!(is_known, "{place}: there is no metric {name}");
        }
    }
}

#[test]
fn each_alert_has_a_text_for_whoever_is_woken() {
    let page = include_str!("../../../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let first_cells: Vec<&str> = rows.filter_map(|row| row.split(" | ").next()).collect();
    for (alert, _) in alerts() {
        let name = format!("`{alert}`");
        let is_there = first_cells.iter().any(|cell| cell.contains(&name));
        assert!(is_there, "operations.md has nothing on {alert}");
    }
}

/// Runs Prometheus' own checker over files: what it has against them, if anything. Where it is not
/// installed, nothing is checked, which is said.
fn promtool(args: &[&str], files: &[(&str, &str)]) -> Result<(), String> {
    let what = format!("promtool {}", args.join(" "));
    let Some(promtool) = find_tool("promtool", "Debian's package prometheus", &what) else {
        return Ok(());
    };
    let folder: PathBuf = std::env::temp_dir().join(format!(
        "lateen-promtool-{}-{}",
        std::process::id(),
        args.join("-")
    ));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let output = Command::new(promtool)
        .args(args)
        .current_dir(&folder)
        .output()
        .expect("promtool runs");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    match output.status.success() {
        true => Ok(()),
        false => Err([output.stdout, output.stderr]
            .map(|said| String::from_utf8_lossy(&said).into_owned())
            .concat()),
    }
}

#[test]
fn prometheus_takes_its_files() {
    let parts = parts();
    let maps = of_kind(&parts, "ConfigMap");
    let map = maps
        .iter()
        .find(|map| map["metadata"]["name"] == "prometheus");
    let files = &map.expect("the files")["data"];
    let config = text(&files["prometheus.yml"]).replace("/etc/prometheus/", "");
    let alerts = text(&files["alerts.yml"]);
    assert_eq!(
        promtool(&["check", "rules", "alerts.yml"], &[("alerts.yml", alerts)]),
        Ok(())
    );
    let check = |config: &str| {
        let files = [("prometheus.yml", config), ("alerts.yml", alerts)];
        promtool(&["check", "config", "prometheus.yml"], &files)
    };
    let mut checked = check(&config);
    // Debian builds it without the discovery of Kubernetes; everything else is looked at there.
    if checked
        .as_ref()
        .is_err_and(|said| said.contains("kubernetes_sd_configs not found"))
    {
        not_checked("kubernetes_sd_configs, which this promtool does not know");
        let mut config: Value = serde_saphyr::from_str(&config).expect("YAML");
        for job in config["scrape_configs"].as_array_mut().expect("jobs") {
            let job = job.as_object_mut().expect("a job");
            job.remove("kubernetes_sd_configs");
        }
        checked = check(&config.to_string());
    }
    assert_eq!(checked, Ok(()));
}

#[test]
fn alerts_speak_when_they_should() {
    let tests = include_str!("../../../../dashboards/alerts-test.yaml");
    let files = [
        ("alerts.yaml", prometheus::ALERTS),
        ("alerts-test.yaml", tests),
    ];
    assert_eq!(
        promtool(&["test", "rules", "alerts-test.yaml"], &files),
        Ok(())
    );
}

#[test]
fn prometheus_understands_what_dashboards_ask() {
    let rules = questions()
        .into_iter()
        .enumerate()
        .map(|(n, (_, question))| {
            serde_json::json!({"record": format!("question{n}"), "expr": question})
        });
    let file = serde_json::json!({"groups": [{"name": "all", "rules": rules.collect::<Vec<_>>()}]});
    let checked = promtool(
        &["check", "rules", "questions.yml"],
        &[("questions.yml", &file.to_string())],
    );
    assert_eq!(checked, Ok(()));
}
