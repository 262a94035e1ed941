//! The proxy from the outside: whole exchanges on loopback.

mod common;
mod discovery;
mod dynamic;
mod forward_proxy;
mod http;
mod http2;
mod ipv6;
mod limits;
mod local_reply;
mod mirror;
mod oracle;
mod pools;
mod proxy_protocol;
mod raw;
mod session;
mod stream;
mod tls;
mod tunnel;
mod udp;
mod unix;
mod upstream;
mod zones;
