//! The services as a program sees them, on ports of the loop-back interface.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lateen_bookinfo::{Service, Settings, router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An address where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

fn settings() -> Settings {
    let mut settings = Settings::from_env().expect("the environment says nothing odd");
    for authority in [
        &mut settings.details,
        &mut settings.reviews,
        &mut settings.ratings,
    ] {
        *authority = NOBODY.to_owned();
    }
    Settings {
        ratings_enabled: None,
        star_color: None,
        pod: "pod-1".to_owned(),
        ..settings
    }
}

async fn start(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

async fn service(service: Service, version: &str, settings: Settings) -> String {
    start(router(service, version, settings).expect("there is such a version")).await
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn ask(method: &str, url: String, headers: &[(&str, &str)], body: &'static str) -> Answer {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answer = Client::builder(TokioExecutor::new())
        .build_http()
        .request(request)
        .await;
    let (head, body) = answer.expect("an answer").into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    Answer {
        status: head.status,
        headers: head.headers,
        text,
    }
}

async fn fetch(url: String) -> Answer {
    ask("GET", url, &[], "").await
}

/// A page with all its services, reviews in the given version.
async fn shop(version: &str) -> String {
    let details = service(Service::Details, "v1", settings()).await;
    let ratings = service(Service::Ratings, "v1", settings()).await;
    let reviews = Settings {
        ratings: ratings.clone(),
        ..settings()
    };
    let reviews = service(Service::Reviews, version, reviews).await;
    service(
        Service::Productpage,
        "v1",
        Settings {
            details,
            ratings,
            reviews,
            ..settings()
        },
    )
    .await
}

#[tokio::test]
async fn each_version_of_reviews_has_its_stars() {
    for (version, color) in [("v1", None), ("v2", Some("black")), ("v3", Some("red"))] {
        let page = shop(version).await;
        let reviews = fetch(format!("http://{page}/api/v1/products/0/reviews"))
            .await
            .json();
        assert_eq!(
            (&reviews["id"], &reviews["podname"]),
            (&json!("0"), &json!("pod-1"))
        );
        assert_eq!(reviews["clustername"], "null");
        let expected = color.map(|color| json!({ "stars": 5, "color": color }));
        assert_eq!(
            reviews["reviews"][0].get("rating"),
            expected.as_ref(),
            "{version}"
        );
        let html = fetch(format!("http://{page}/productpage?u=normal"))
            .await
            .text;
        assert!(html.contains("pod-1") && html.contains("PublisherA"));
        assert_eq!(
            html.contains("data-stars=\"5\""),
            color.is_some(),
            "{version}"
        );
    }
}

#[tokio::test]
async fn the_interface_of_the_sample() {
    let page = shop("v2").await;
    let products = fetch(format!("http://{page}/api/v1/products")).await.json();
    assert_eq!(
        (&products[0]["id"], &products[0]["title"]),
        (&json!(0), &json!("The Comedy of Errors"))
    );
    assert!(products[0]["descriptionHtml"].is_string());
    let details = fetch(format!("http://{page}/api/v1/products/0"))
        .await
        .json();
    for field in [
        "id",
        "author",
        "year",
        "type",
        "pages",
        "publisher",
        "language",
        "ISBN-10",
        "ISBN-13",
    ] {
        assert!(details.get(field).is_some(), "{field}");
    }
    let ratings = fetch(format!("http://{page}/api/v1/products/0/ratings"))
        .await
        .json();
    assert_eq!(
        ratings,
        json!({ "id": 0, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } })
    );
    assert_eq!(
        fetch(format!("http://{page}/health")).await.text,
        "Product page is healthy"
    );
    let metrics = fetch(format!("http://{page}/metrics")).await.text;
    assert!(
        metrics.contains("path=\"/api/v1/products/{id}\",response_code=\"200\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn ratings_can_be_posted_and_nonsense_is_refused() {
    let ratings = service(Service::Ratings, "v1", settings()).await;
    let url = format!("http://{ratings}/ratings/7");
    let posted = ask("POST", url.clone(), &[], r#"{"Reviewer1":1,"Reviewer2":2}"#)
        .await
        .json();
    assert_eq!(
        posted,
        json!({ "id": 7, "ratings": { "Reviewer1": 1, "Reviewer2": 2 } })
    );
    assert_eq!(fetch(url.clone()).await.json(), posted);
    assert_eq!(
        ask("POST", url, &[], "five").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        fetch(format!("http://{ratings}/ratings/x")).await.status,
        StatusCode::BAD_REQUEST
    );
    let details = service(Service::Details, "v1", settings()).await;
    let answer = fetch(format!("http://{details}/details/x")).await;
    assert_eq!(
        (answer.status, answer.json()["error"].is_string()),
        (StatusCode::BAD_REQUEST, true)
    );
    assert!(router(Service::Ratings, "v2", settings()).is_err());
}

#[tokio::test]
async fn a_user_signs_in_and_is_told_to_the_neighbours() {
    // In place of reviews, a service that answers with what it was sent.
    let echo = |request: Request| async move {
        let headers = request.headers().iter();
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        axum::Json(
            headers
                .map(|(name, value)| (name.to_string(), json!(text(value))))
                .collect::<Value>(),
        )
    };
    let reviews = start(Router::new().route("/reviews/{id}", get(echo))).await;
    let page = service(
        Service::Productpage,
        "v1",
        Settings {
            reviews,
            ..settings()
        },
    )
    .await;
    let form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("referer", "http://x/productpage?u=1"),
    ];
    let login = ask(
        "POST",
        format!("http://{page}/login"),
        &form,
        "username=jason&passwd=x",
    )
    .await;
    assert_eq!(
        (login.status, &login.headers["location"]),
        (StatusCode::FOUND, &"/productpage".parse().expect("a value"))
    );
    let cookie = login.headers["set-cookie"]
        .to_str()
        .expect("text")
        .split(';')
        .next()
        .expect("a pair");
    let url = format!("http://{page}/api/v1/products/0/reviews");
    let headers = [
        ("cookie", cookie),
        ("x-request-id", "r1"),
        ("traceparent", "t1"),
        ("x-b3-traceid", "b1"),
    ];
    let seen = ask("GET", url.clone(), &headers, "").await.json();
    assert_eq!(
        (&seen["end-user"], &seen["x-request-id"]),
        (&json!("jason"), &json!("r1"))
    );
    assert_eq!(
        (&seen["traceparent"], &seen["x-b3-traceid"]),
        (&json!("t1"), &json!("b1"))
    );
    let html = ask(
        "GET",
        format!("http://{page}/productpage"),
        &[("cookie", cookie)],
        "",
    )
    .await
    .text;
    assert!(html.contains("Signed in as <b>jason</b>"));
    assert_eq!(fetch(url).await.json().get("end-user"), None);
    let logout = fetch(format!("http://{page}/logout")).await;
    assert!(
        logout.headers["set-cookie"]
            .to_str()
            .expect("text")
            .contains("Max-Age=0")
    );
}

#[tokio::test]
async fn services_that_are_away_leave_an_error_in_their_place() {
    let page = service(Service::Productpage, "v1", settings()).await;
    let html = fetch(format!("http://{page}/productpage")).await;
    assert_eq!(html.status, StatusCode::OK);
    assert!(html.text.contains("Error fetching product details"));
    assert!(html.text.contains("Error fetching product reviews"));
    let answer = fetch(format!("http://{page}/api/v1/products/0/reviews")).await;
    assert_eq!(
        (answer.status, answer.json()["error"].is_string()),
        (StatusCode::INTERNAL_SERVER_ERROR, true)
    );
    let reviews = service(Service::Reviews, "v3", settings()).await;
    let reviews = fetch(format!("http://{reviews}/reviews/0")).await.json();
    assert_eq!(
        reviews["reviews"][1]["rating"]["error"],
        "Ratings service is currently unavailable"
    );
}

#[tokio::test]
async fn slow_ratings_break_the_page_with_black_stars_and_cost_the_red_ones() {
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        axum::Json(json!({ "ratings": {} }))
    };
    let ratings = start(Router::new().route("/ratings/{id}", get(slow))).await;
    let page = |version| {
        let settings = Settings {
            ratings: ratings.clone(),
            ..settings()
        };
        async move {
            let reviews = service(Service::Reviews, version, settings.clone()).await;
            let page = service(
                Service::Productpage,
                "v1",
                Settings {
                    reviews,
                    ..settings
                },
            )
            .await;
            let started = Instant::now();
            (
                fetch(format!("http://{page}/productpage")).await.text,
                started.elapsed(),
            )
        }
    };
    let ((black, black_took), (red, red_took)) = tokio::join!(page("v2"), page("v3"));
    assert!(black.contains("Error fetching product reviews"));
    assert!(black_took >= Duration::from_secs(6), "{black_took:?}");
    assert!(
        red.contains("Ratings service is currently unavailable")
            && !red.contains("product reviews")
    );
    assert!(red_took < Duration::from_secs(6), "{red_took:?}");
}
