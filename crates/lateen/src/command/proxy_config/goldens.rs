//! Each table as a whole, to the last space: programs cut these columns, and so do people's scripts.
//! Padding is 5 spaces but for listeners, which have 1, as `istioctl` has it.

use std::time::{Duration, UNIX_EPOCH};

use super::dump::EXTENSIONS;
use super::tests::{dump, hosts};
use super::{cluster, ecds, eds, endpoint, listener, route, secret};
use crate::table::Table;

fn check<const N: usize>(table: &Table, expect: [&str; N]) {
    let told = table.to_string();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines, expect);
}

#[test]
fn clusters() {
    let dump = dump();
    let all = cluster::select(&dump, &cluster::Filter::default(), None);
    check(
        &cluster::table(&all, false),
        [
            "SERVICE FQDN                          PORT     SUBSET     DIRECTION     TYPE                                     DESTINATION RULE",
            "                                      9080     -          inbound       ORIGINAL_DST                             ",
            "dfp                                   -        -          -             envoy.clusters.dynamic_forward_proxy     ",
            "ratings.default.svc.cluster.local     9080     -          outbound      EDS                                      ",
            "reviews.default.svc.cluster.local     9080     -          outbound      EDS                                      ",
            "reviews.default.svc.cluster.local     9080     v2         outbound      EDS                                      reviews.default",
            "xds-grpc                              -        -          -             STATIC                                   ",
        ],
    );
    check(
        &cluster::table(&all, true),
        [
            "NAME                                                   SERVICE FQDN                          PORT     SUBSET     DIRECTION     TYPE                                     DESTINATION RULE",
            "inbound|9080||                                                                               9080     -          inbound       ORIGINAL_DST                             ",
            "dfp                                                    dfp                                   -        -          -             envoy.clusters.dynamic_forward_proxy     ",
            "outbound|9080||ratings.default.svc.cluster.local       ratings.default.svc.cluster.local     9080     -          outbound      EDS                                      ",
            "outbound|9080||reviews.default.svc.cluster.local       reviews.default.svc.cluster.local     9080     -          outbound      EDS                                      ",
            "outbound|9080|v2|reviews.default.svc.cluster.local     reviews.default.svc.cluster.local     9080     v2         outbound      EDS                                      reviews.default",
            "xds-grpc                                               xds-grpc                              -        -          -             STATIC                                   ",
        ],
    );
}

#[test]
fn listeners() {
    let dump = dump();
    let all = listener::select(&dump, &listener::Filter::default(), None);
    check(
        &listener::table(&all),
        [
            "ADDRESSES  PORT  MATCH                                      DESTINATION",
            "0.0.0.0    53    ALL                                        UDP",
            "0.0.0.0    9000  ALL                                        Clusters: a (9), b (1)",
            "0.0.0.0,:: 9080  ALL                                        Route: 9080",
            "0.0.0.0    15001 ALL                                        PassthroughCluster",
            "0.0.0.0    15006 Addr: *:15006                              Non-HTTP/Non-TCP",
            "0.0.0.0    15006 Trans: tls; App: TCP TLS; Addr: 0.0.0.0/0  InboundPassthroughCluster",
            "0.0.0.0    15006 Trans: raw_buffer; App: spdy; Addr: *:9080 Cluster: inbound|9080||",
            "0.0.0.0    15021 SNI: a,b                                   Inline Route: x/y /ready, regex a+",
        ],
    );
    let inbound = listener::select(&dump, &listener::Filter::default(), Some(15006));
    check(
        &listener::chains_by_name(&inbound),
        [
            "LISTENER       CHAIN     MATCH                                      DESTINATION",
            "virtualInbound blackhole Addr: *:15006                              Non-HTTP/Non-TCP",
            "virtualInbound tls       Trans: tls; App: TCP TLS; Addr: 0.0.0.0/0  InboundPassthroughCluster",
            "virtualInbound app       Trans: raw_buffer; App: spdy; Addr: *:9080 Cluster: inbound|9080||",
        ],
    );
}

#[test]
fn routes() {
    let dump = dump();
    let all = route::select(&dump, &route::Filter::default());
    check(
        &route::table(&all),
        [
            "NAME               VHOST NAME                                 DOMAINS                                  MATCH                 VIRTUAL SERVICE",
            "80                 none                                       x.example                                /*                    404",
            "9080               reviews.default.svc.cluster.local:9080     reviews, reviews.default + 2 more...     /login + 1 header     reviews.default",
            "9080               reviews.default.svc.cluster.local:9080     reviews, reviews.default + 2 more...     /api*                 ",
            "inbound|9080||     inbound|http|9080                          *                                        /*                    ",
        ],
    );
    check(
        &route::counted(&all),
        [
            "NAME               VIRTUAL HOSTS",
            "80                 1",
            "9080               2",
            "inbound|9080||     1",
        ],
    );
}

#[test]
fn endpoints() {
    let all = eds::select(&dump(), &endpoint::Filter::default());
    check(
        &eds::table(&all.iter().collect::<Vec<_>>()),
        [
            "NAME                STATUS       LOCALITY     CLUSTER",
            "10.244.0.5:9080     HEALTHY      r/z          outbound|9080||ratings.default.svc.cluster.local",
            "[fd00::5]:9080      DRAINING     r/z          outbound|9080||ratings.default.svc.cluster.local",
        ],
    );
    let all = endpoint::select(&hosts(), &endpoint::Filter::default());
    check(
        &endpoint::table(&all.iter().collect::<Vec<_>>()),
        [
            "ENDPOINT          STATUS        OUTLIER CHECK     CLUSTER",
            "unix:///run/x     HEALTHY       OK                a",
            "10.0.0.1:80       HEALTHY       FAILED            b",
            "10.0.0.2:80       UNHEALTHY     OK                b",
        ],
    );
}

#[test]
fn certificates() {
    let now = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    check(
        &secret::table(&dump(), now),
        [
            "RESOURCE NAME         TYPE     STATUS      VALID CERT     SERIAL NUMBER     NOT AFTER                NOT BEFORE",
            "kubernetes://late              WARMING     false                                                     ",
            "ROOTCA                CA       ACTIVE      true           1234abcd          2027-01-01T00:00:00Z     2026-01-01T00:00:00Z",
        ],
    );
}

#[test]
fn extensions() {
    check(
        &ecds::table(&dump().resources(EXTENSIONS)),
        [
            "ECDS NAME     TYPE",
            "wasm          envoy.extensions.filters.http.wasm.v3.Wasm",
        ],
    );
}
