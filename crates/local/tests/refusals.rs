//! What the API server says to requests that are wrong, over real connections.

#[path = "apiserver/server.rs"]
mod server;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use lateen_tls::SigningKey;
use serde_json::{Value, json};
use server::{Server, code, config_map, send};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A client that shows a token and nothing else.
fn with_token(server: &Server, token: Option<&str>) -> kube::Client {
    let mut config = kube::Config::new(server.url.parse().expect("a URL"));
    config.accept_invalid_certs = true;
    config.auth_info.token = token.map(|token| token.to_owned().into());
    kube::Client::try_from(config).expect("a client")
}

async fn refusal(client: kube::Client) -> (u16, String) {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let answer = maps.list(&ListParams::default()).await;
    code(answer.expect_err("refused"))
}

/// A token with these claims in place of a good one's, signed by this key.
fn resigned(good: &str, key: &SigningKey, claims: &Value) -> String {
    let mut parts = good.split('.');
    let (header, payload) = (
        parts.next().expect("header"),
        parts.next().expect("payload"),
    );
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64");
    let mut payload: Value = serde_json::from_slice(&payload).expect("JSON");
    for (name, value) in claims.as_object().expect("claims") {
        payload[name] = value.clone();
    }
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = key.sign(input.as_bytes()).expect("signed");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(server.admin().await, "default");
    let post = PostParams::default();
    let account = serde_json::from_value(json!({"metadata": {"name": "app"}}));
    accounts
        .create(&post, &account.expect("an account"))
        .await
        .expect("created");
    let token = async |spec: Value| {
        let request = serde_json::from_value(json!({ "spec": spec })).expect("a request");
        let issued = accounts.create_token_request("app", &post, &request).await;
        issued.expect("issued").status.expect("a status").token
    };
    let good: Value = json!(token(json!({"audiences": []})).await);
    let good = good.as_str().expect("a token");
    // Known, and not allowed: so the token itself is good.
    assert_eq!(refusal(with_token(&server, Some(good))).await.0, 403);

    let pem = std::fs::read_to_string(directory.path().join("pki/sa.key")).expect("the key");
    let ours = SigningKey::from_pem(&pem).expect("a key");
    let stranger = SigningKey::generate().expect("a key");
    let other: Value = json!(token(json!({"audiences": ["istio-ca"]})).await);
    let cases = [
        (
            resigned(good, &ours, &json!({"exp": 1_000_000_000})),
            "has expired",
        ),
        (
            resigned(good, &ours, &json!({"nbf": 9_000_000_000_i64})),
            "not valid yet",
        ),
        (
            resigned(good, &ours, &json!({"iss": "https://elsewhere"})),
            "foreign issuer",
        ),
        (resigned(good, &stranger, &json!({})), "not of this cluster"),
        (other.as_str().expect("a token").to_owned(), "audience"),
        ("nonsense".to_owned(), "malformed"),
    ];
    for (token, why) in cases {
        let (number, message) = refusal(with_token(&server, Some(&token))).await;
        assert_eq!(number, 401, "{why}: {message}");
        assert!(
            message.starts_with("Unauthorized: ") && message.contains(why),
            "{message}"
        );
    }
    let (number, message) = refusal(with_token(&server, None)).await;
    assert_eq!(number, 401);
    for part in [
        "neither a client certificate nor a bearer token",
        "kubeconfig",
    ] {
        assert!(message.contains(part), "{message}");
    }
    server.stop().await;
}

/// A token that ends with its Secret, and one that was of another account of the same name.
#[tokio::test]
async fn tokens_end_with_what_they_were_made_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(admin, "default");
    let post = PostParams::default();
    let make = async || {
        let account = serde_json::from_value(json!({"metadata": {"name": "app"}}));
        let account = account.expect("an account");
        accounts.create(&post, &account).await.expect("created");
        let secret = serde_json::from_value(json!({"metadata": {"name": "held"}}));
        let secret = secret.expect("a Secret");
        secrets.create(&post, &secret).await.expect("created")
    };
    let ask = async |uid: Option<String>| {
        let bound = json!({"kind": "Secret", "apiVersion": "v1", "name": "held", "uid": uid});
        let request = json!({"spec": {"audiences": [], "boundObjectRef": bound}});
        let request = serde_json::from_value(request).expect("a request");
        let issued = accounts.create_token_request("app", &post, &request).await;
        issued.map(|issued| issued.status.expect("a status").token.expect("a token"))
    };
    let status = async |token: &str| refusal(with_token(&server, Some(token))).await;
    let delete = DeleteParams::default();

    let secret = make().await;
    let other = ask(Some("another".into())).await.expect_err("refused");
    assert_eq!(code(other).0, 409);
    let token = ask(secret.metadata.uid).await.expect("issued");
    assert_eq!(status(&token).await.0, 403, "known, and not allowed");
    secrets.delete("held", &delete).await.expect("deleted");
    let gone = "the secret \"held\" that the token is bound to is gone";
    let (number, message) = status(&token).await;
    assert!(number == 401 && message.contains(gone), "{message}");
    accounts.delete("app", &delete).await.expect("deleted");
    let secret = make().await;
    // A Secret and an account of the same names are not those of before.
    assert_eq!(status(&token).await.0, 401);
    let token = ask(secret.metadata.uid).await.expect("issued");
    assert_eq!(status(&token).await.0, 403);
    accounts.delete("app", &delete).await.expect("deleted");
    secrets.delete("held", &delete).await.expect("deleted");
    make().await;
    let (number, message) = status(&token).await;
    assert!(
        number == 401 && message.contains("deleted or replaced"),
        "{message}"
    );
    server.stop().await;
}

async fn post(client: &kube::Client, media: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
    let request = http::Request::post(MAPS).header("content-type", media);
    let request = request.body(body.into()).expect("a request");
    code(client.request::<Value>(request).await.expect_err("refused"))
}

#[tokio::test]
async fn bodies_that_cannot_be_are_refused_with_place_and_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let (json, yaml) = ("application/json", "application/yaml");
    let cases = [
        (
            json,
            "{\"kind\": \"ConfigMap\",\n \"metadata\": {]",
            400,
            "line 2",
        ),
        (yaml, "kind: ConfigMap\nmetadata: [\n", 400, "line"),
        (json, "[1]", 400, "not an object"),
        (
            json,
            "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}",
            400,
            "Pod",
        ),
        (json, "{\"metadata\": {}}", 422, "metadata.name"),
        (
            json,
            "{\"metadata\": {\"name\": \"A_b\"}}",
            422,
            "metadata.name",
        ),
        ("text/csv", "a,b", 415, "application/json"),
    ];
    for (media, body, number, part) in cases {
        let (got, message) = post(&admin, media, body).await;
        assert_eq!(got, number, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    let mut large = config_map("large", "1");
    large.data = Some([("key".to_owned(), "x".repeat(4 << 20))].into());
    let (number, message) = post(&admin, json, serde_json::to_vec(&large).expect("JSON")).await;
    assert_eq!(number, 413, "{message}");
    assert!(
        message.contains("3145728"),
        "the limit is not named: {message}"
    );
    let maps: Api<ConfigMap> = Api::namespaced(admin, "default");
    assert_eq!(code(maps.get("large").await.expect_err("not there")).0, 404);
    server.stop().await;
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str, container: &Value) -> String {
    json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}}})
    .to_string()
}

#[tokio::test]
async fn builtin_kinds_are_typed_and_checked() {
    use http::Method;
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let untyped = json!({"name": "c", "image": "x", "command": [true]});
    let (number, _, status) = send(
        &admin,
        Method::POST,
        DEPLOYMENTS,
        &deployment("d", &untyped),
    )
    .await;
    let wording = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.command of type string";
    assert_eq!((number, &status["message"]), (400, &wording.into()));

    let invalid = json!({"name": "C", "image": "x", "livenessProbe": {}});
    let (number, _, status) = send(
        &admin,
        Method::POST,
        DEPLOYMENTS,
        &deployment("d", &invalid),
    )
    .await;
    assert_eq!((number, &status["reason"]), (422, &"Invalid".into()));
    let causes = status["details"]["causes"].as_array().expect("causes");
    let fields: Vec<_> = causes
        .iter()
        .map(|one| (&one["reason"], &one["field"]))
        .collect();
    let at = "spec.template.spec.containers[0]";
    assert_eq!(
        fields,
        [
            (&json!("FieldValueInvalid"), &json!(format!("{at}.name"))),
            (
                &json!("FieldValueRequired"),
                &json!(format!("{at}.livenessProbe"))
            ),
        ]
    );

    // What is stored cannot be made wrong by a patch, and selectors stay.
    let good = json!({"name": "c", "image": "x"});
    let made = send(&admin, Method::POST, DEPLOYMENTS, &deployment("d", &good)).await;
    assert_eq!(made.0, 201, "{}", made.2);
    let path = format!("{DEPLOYMENTS}/d");
    for (patch, code) in [
        (json!({"spec": {"replicas": "two"}}), 400),
        (json!({"spec": {"replicas": -1}}), 422),
        (
            json!({"spec": {"selector": {"matchLabels": {"a": "b", "c": null}}}}),
            200,
        ),
        (json!({"metadata": {"labels": {"a": 1}}}), 400),
        (
            json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
            422,
        ),
    ] {
        let answer = send(&admin, Method::PATCH, &path, &patch.to_string()).await;
        assert_eq!(answer.0, code, "{patch}: {}", answer.2);
    }
    let (number, _, _) = send(&admin, Method::PUT, &format!("{path}/nothing"), "{}").await;
    assert_eq!(number, 404, "a subresource that is not served");
    server.stop().await;
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_treated_as_asked() {
    use http::Method;
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let body = |name: &str| {
        format!(
            "{{\"metadata\": {{\"name\": {name:?}}}, \"data\": {{\"k\": \"1\", \"k\": \"2\"}}, \"dta\": {{}}}}"
        )
    };
    let faults = ["duplicate field \"data.k\"", "unknown field \"dta\""];
    let post = async |name: &str, query: &str| {
        send(
            &admin,
            Method::POST,
            &format!("{MAPS}?{query}"),
            &body(name),
        )
        .await
    };
    let (number, _, status) = post("strict", "fieldValidation=Strict").await;
    let wording = format!(
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: {}",
        faults.join(", ")
    );
    assert_eq!((number, &status["message"]), (400, &wording.into()));
    for (query, said) in [
        ("", 2),
        ("fieldValidation=Warn", 2),
        ("fieldValidation=Ignore", 0),
    ] {
        let (number, warnings, map) = post(&format!("made-{}", query.len()), query).await;
        assert_eq!((number, warnings.len()), (201, said), "{query}: {map}");
        assert_eq!((map.get("dta"), &map["data"]["k"]), (None, &"2".into()));
    }
    assert_eq!(post("other", "fieldValidation=Maybe").await.0, 422);
    // A patch is checked as well: kubectl applies with it.
    let patch = r#"{"datta": {}}"#;
    let path = format!("{MAPS}/made-0?fieldValidation=Strict");
    let (number, _, status) = send(&admin, Method::PATCH, &path, patch).await;
    assert_eq!(number, 400, "{status}");
    server.stop().await;
}
