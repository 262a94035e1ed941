//! Sockets in the file system, beside real Envoy: requests and bytes come in by one and go out by
//! another.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::common::{Client, TCP, hcm, listener};
use crate::oracle::{Who, both_in};

fn pipe(path: &str) -> Value {
    json!({ "pipe": { "path": path } })
}

fn cluster(name: &str, path: &str) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [
            { "lb_endpoints": [{ "endpoint": { "address": pipe(path) } }] }] },
    })
}

/// Answers what it was sent, as HTTP where that is asked for.
fn serve(path: &Path, answer: impl Fn(&str) -> String + Send + 'static) {
    let socket = UnixListener::bind(path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut seen = vec![0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut seen).await {
                let text = String::from_utf8_lossy(&seen[..length]).into_owned();
                if stream.write_all(answer(&text).as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
}

async fn ask(path: &Path, question: &str, end: &str) -> String {
    let stream = UnixStream::connect(path).await.expect("listening");
    talk(stream, question, end).await
}

/// The same of whoever listens at a name of the abstract namespace.
async fn ask_hidden(name: &str, question: &str, end: &str) -> String {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let stream = std::os::unix::net::UnixStream::connect_addr(&address).expect("listening");
    stream.set_nonblocking(true).expect("a socket");
    talk(
        UnixStream::from_std(stream).expect("a runtime"),
        question,
        end,
    )
    .await
}

async fn talk(mut stream: UnixStream, question: &str, end: &str) -> String {
    stream.write_all(question.as_bytes()).await.expect("open");
    let mut answer = Vec::new();
    let limit = Duration::from_secs(30);
    while !String::from_utf8_lossy(&answer).ends_with(end) {
        let read = tokio::time::timeout(limit, stream.read_buf(&mut answer)).await;
        let length = read.expect("in time").expect("open");
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn requests_and_bytes_by_paths() {
    let folder = std::env::temp_dir().join(format!("lateen-pipes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let at = |name: &str| folder.join(name);
    let text = |name: &str| at(name).to_str().expect("text").to_owned();
    serve(&at("app"), |request| {
        assert!(request.starts_with("GET /a HTTP/1.1\r\n"), "{request}");
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned()
    });
    serve(&at("bytes"), |bytes| format!("{bytes}!"));
    // Whoever ended before us leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(at("in")).expect("a socket"));
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }] }]);
    let hidden = |port: u16| format!("lateen-pipes-{}-{port}", std::process::id());
    let hidden_at = |mut listener: Value, port: u16| {
        listener["address"] = pipe(&format!("@{}", hidden(port)));
        listener
    };
    let listeners = |port: u16| {
        let with = |name: &str, path: &str, filter: Value| {
            let mut listener = listener(name, 0, "OUTBOUND", filter);
            listener["address"] = json!({ "pipe": { "path": path, "mode": 0o660 } });
            listener
        };
        let tcp = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "bytes" });
        // Each of the two has abstract names of its own: the first may not be gone yet.
        json!([
            listener("main", port, "OUTBOUND", hcm(routes.clone())),
            with("path", &text("in"), hcm(routes.clone())),
            with("bytes", &text("bytes-in"), tcp.clone()),
            hidden_at(with("hidden", "", tcp), port),
        ])
    };
    let clusters = json!([
        cluster("app", &text("app")),
        cluster("bytes", &text("bytes"))
    ]);
    both_in(json!({}), listeners, clusters, async |who: Who, port| {
        let mut client = Client::connect(port, false).await;
        let seen = client.get("any", "/a").await;
        assert_eq!((seen.status, seen.text.as_str()), (200, "hello"), "{who:?}");
        let question = "GET /a HTTP/1.1\r\nhost: any\r\n\r\n";
        let answer = ask(&at("in"), question, "hello").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{who:?}: {answer}"
        );
        assert_eq!(ask(&at("bytes-in"), "some", "!").await, "some!", "{who:?}");
        let mode = std::fs::metadata(at("in"))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660, "{who:?}");
        let hidden = hidden(port);
        assert_eq!(ask_hidden(&hidden, "some", "!").await, "some!", "{who:?}");
        assert!(!Path::new(&format!("@{hidden}")).exists());
    })
    .await;
    std::fs::remove_dir_all(&folder).expect("ours");
}
