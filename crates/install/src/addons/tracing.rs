//! Traces: Jaeger, or Zipkin. Both take what is sent to the Service `zipkin`, by Zipkin's protocol.

use serde_json::Value;

use super::server::{self, Server};
use crate::Installation;

const JAEGER: &str = "jaeger";
const ZIPKIN: &str = "zipkin";

/// Jaeger with its traces in memory.
pub(super) fn jaeger(installation: &Installation) -> Vec<Value> {
    let server = Server {
        name: JAEGER,
        image: "docker.io/jaegertracing/jaeger:2.20.0",
        user: 10001,
        args: Vec::new(),
        // It listens on loopback otherwise.
        env: vec![("JAEGER_LISTEN_HOST", "0.0.0.0".to_owned())],
        ports: &[
            ("http-query", 16686),
            ("grpc-otlp", 4317),
            ("http-otlp", 4318),
            ("http-zipkin", 9411),
        ],
        ready: ("/", 16686),
        resources: ["50m", "256Mi", "1Gi"],
        needs_token: false,
        files: Vec::new(),
        folders: &[("tmp", "/tmp", "64Mi")],
    };
    let service = |name, ports| server::service(installation, JAEGER, name, ports);
    let mut all = server.objects(installation);
    all.push(service(
        "tracing",
        &[("http-query", 80, 16686), ("http-query-own", 16686, 16686)],
    ));
    all.push(service("zipkin", &[("http-zipkin", 9411, 9411)]));
    all.push(service(
        "jaeger-collector",
        &[
            ("grpc-otlp", 4317, 4317),
            ("http-otlp", 4318, 4318),
            ("http-zipkin", 9411, 9411),
        ],
    ));
    all
}

/// Zipkin with its traces in memory.
pub(super) fn zipkin(installation: &Installation) -> Vec<Value> {
    let server = Server {
        name: ZIPKIN,
        image: "docker.io/openzipkin/zipkin:3.6.1",
        user: 1000,
        args: Vec::new(),
        env: vec![("STORAGE_TYPE", "mem".to_owned())],
        ports: &[("http", 9411)],
        ready: ("/health", 9411),
        resources: ["50m", "256Mi", "1Gi"],
        needs_token: false,
        files: Vec::new(),
        folders: &[("tmp", "/tmp", "64Mi")],
    };
    let mut all = server.objects(installation);
    all.push(server::service(
        installation,
        ZIPKIN,
        "tracing",
        &[("http-query", 80, 9411)],
    ));
    all.push(server::service(
        installation,
        ZIPKIN,
        ZIPKIN,
        &[("http-zipkin", 9411, 9411)],
    ));
    all
}
