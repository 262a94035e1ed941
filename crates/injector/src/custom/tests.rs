use serde_json::{Value, json};

use crate::{InjectorConfig, Params, inject_document};

fn params(templates: &str, values: &str) -> Params {
    let config = InjectorConfig::parse(templates, values).expect("a configuration");
    Params::new("proxy:1").with_config(config.into())
}

fn pod(templates: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "n", "labels": {"app": "a"},
            "annotations": {"inject.istio.io/templates": templates}},
        "spec": {"containers": [{"name": "main", "image": "m",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
            "env": [{"name": "LEVEL", "value": "mine"}]}]},
    })
}

fn injected(params: &Params, templates: &str) -> Value {
    let mut pod = pod(templates);
    inject_document(&mut pod, "default", params).expect("injected");
    pod
}

fn names(pod: &Value, field: &str) -> Vec<String> {
    let all = pod["spec"][field].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|item| item["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// What a public guide to custom templates does: more of the sidecar, and an init container.
const LOGGER: &str = "templates:
  logger: |
    metadata:
      annotations:
        owner: \"{{ .DeploymentMeta.Name }}.{{ .ObjectMeta.Namespace }}\"
    spec:
      initContainers:
      - name: wait
        image: {{ .Values.hub | default \"none\" }}/wait
      containers:
      - name: istio-proxy
        env:
        - name: HELLO
          value: {{ annotation .ObjectMeta `hello` \"world\" | quote }}
      - name: main
        env:
        - {name: LEVEL, value: theirs}
        - {name: PORTS, value: \"{{ includeInboundPorts .Spec.Containers }}\"}
      volumes:
      - name: more
        emptyDir: {}
";

#[test]
fn a_template_is_laid_over_the_built_in_one() {
    let params = params(LOGGER, r#"{"hub": "h"}"#);
    let pod = injected(&params, "sidecar,logger");
    assert_eq!(names(&pod, "initContainers"), ["wait", "istio-init"]);
    assert_eq!(names(&pod, "containers"), ["main", "istio-proxy"]);
    assert_eq!(pod["spec"]["initContainers"][0]["image"], "h/wait");
    assert_eq!(pod["metadata"]["annotations"]["owner"], "a.n");
    let env = |container: usize, name: &str| {
        let env = pod["spec"]["containers"][container]["env"]
            .as_array()
            .expect("a list");
        env.iter()
            .find(|it| it["name"] == name)
            .map(|it| it["value"].clone())
    };
    assert_eq!(env(1, "HELLO"), Some(json!("world")));
    assert_eq!(
        env(0, "LEVEL"),
        Some(json!("mine")),
        "the user's word counts"
    );
    assert_eq!(env(0, "PORTS"), Some(json!("80")));
    let status = pod["metadata"]["annotations"]["sidecar.istio.io/status"].as_str();
    let status: Value = serde_json::from_str(status.expect("a status")).expect("JSON");
    assert_eq!(status["initContainers"], json!(["istio-init", "wait"]));
    assert_eq!(status["containers"], json!(["istio-proxy", "main"]));
    assert!(
        status["volumes"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("more")))
    );

    let mut again = pod.clone();
    inject_document(&mut again, "default", &params).expect("injected");
    assert_eq!(again, pod);
}

#[test]
fn a_template_alone_brings_no_sidecar() {
    let alone = params(
        "defaultTemplates: [own]\ntemplates: {own: 'spec: {priorityClassName: p}'}",
        "",
    );
    let mut pod = pod("");
    pod["metadata"]["annotations"] = json!({});
    inject_document(&mut pod, "default", &alone).expect("injected");
    assert_eq!(names(&pod, "containers"), ["main"]);
    assert_eq!(pod["spec"]["priorityClassName"], "p");
}

#[test]
fn a_native_sidecar_is_found_where_it_is() {
    let params = Params {
        native_sidecar: true,
        ..params(LOGGER, "")
    };
    let pod = injected(&params, "sidecar, logger");
    assert_eq!(
        names(&pod, "initContainers"),
        ["istio-init", "istio-proxy", "wait"]
    );
    let proxy = &pod["spec"]["initContainers"][1];
    assert!(proxy["env"].to_string().contains("HELLO"), "{proxy}");
}

#[test]
fn aliases_stand_for_templates() {
    let text = format!("aliases: {{both: [sidecar, logger]}}\n{LOGGER}");
    let pod = injected(&params(&text, ""), "both");
    assert_eq!(names(&pod, "containers"), ["main", "istio-proxy"]);
    assert_eq!(names(&pod, "initContainers"), ["wait", "istio-init"]);
}

#[test]
fn what_goes_wrong_refuses_the_pod() {
    let check = |text: &str, words: &[&str]| {
        let config = format!("templates:\n  own: {}", json!(text));
        let refused = inject_document(&mut pod("sidecar,own"), "default", &params(&config, ""));
        let refused = refused.expect_err(text);
        for word in words {
            assert!(refused.contains(word), "{refused}");
        }
    };
    check(
        "a\n{{ fail \"because\" }}",
        &["\"own\"", "line 2", "because"],
    );
    check("spec: [", &["\"own\"", "not valid YAML"]);
    check("just text", &["\"own\"", "not a pod"]);
    let refused = inject_document(&mut pod("sidecar,nosuch"), "default", &params(LOGGER, ""));
    let refused = refused.expect_err("refused");
    assert!(
        refused.contains("nosuch") && refused.contains("logger"),
        "{refused}"
    );
}

/// As Istio reads what a template becomes, and `kubectl` any file.
#[test]
fn numbers_and_words_are_those_of_kubernetes() {
    let template =
        "spec: {hostPID: off, volumes: [{name: v, secret: {secretName: s, defaultMode: 0440}}]}";
    let config = format!("templates: {{own: {}}}", json!(template));
    let pod = injected(&params(&config, ""), "own");
    assert_eq!(pod["spec"]["hostPID"], false);
    assert_eq!(pod["spec"]["volumes"][0]["secret"]["defaultMode"], 288);
}

#[test]
fn istios_functions() {
    let check = |expression: &str, want: &str| {
        let template =
            format!("metadata: {{annotations: {{got: {{{{ {expression} | quote }}}}}}}}");
        let config = format!("templates:\n  own: {}", json!(template));
        let pod = injected(
            &params(&config, r#"{"global": {"m": {"a": 1, "b": null}}}"#),
            "own",
        );
        assert_eq!(pod["metadata"]["annotations"]["got"], want, "{expression}");
    };
    check(
        "isset .ObjectMeta.Annotations `inject.istio.io/templates`",
        "true",
    );
    check("isset .ObjectMeta.Annotations `other`", "false");
    check(
        "annotation .ObjectMeta `other` .ProxyConfig.StatusPort",
        "15020",
    );
    check("valueOrDefault .Values.none \"d\"", "d");
    check("toJSON .Values.global.m", "{\"a\":1,\"b\":null}");
    check("omitNil .Values.global.m | toJSON", "{\"a\":1}");
    check(
        "toJsonMap (strdict \"a\" \"1\") (strdict \"b\" \"2\")",
        "{\"a\":\"1\",\"b\":\"2\"}",
    );
    check("(fromJSON `{\"x\": 3}`).x", "3");
    check("excludeInboundPort 15020 \"1,2\"", "1,2,15020");
    check("excludeInboundPort \"2\" \"1, 2\"", "1,2");
    check("appendMultusNetwork \"a\" \"istio-cni\"", "a, istio-cni");
    check("appendMultusNetwork \"[]\" \"n\"", "[{\"name\":\"n\"}]");
    check("directory \"/etc/a/b.json\"", "/etc/a/");
    check("contains \"b\" \"abc\"", "true");
    check("toLower \"AB\"", "ab");
    check("indent 2 \"a\\nb\"", "a\n  b");
    check("formatDuration .ProxyConfig.DrainDuration", "45s");
    check(
        "printf \"%s %v %s\" .ProxyImage .ProxyUID .Revision",
        "proxy:1 1337 default",
    );
    check(
        "printf \"%s %s\" .TypeMeta.Kind .MeshConfig.TrustDomain",
        "Pod cluster.local",
    );
    check(
        "printf \"%v %s\" .NativeSidecars .InboundTrafficPolicyMode",
        "false passthrough",
    );
}
