//! The proxy from the outside: whole exchanges on loopback.

mod common;
mod discovery;
mod http;
mod http2;
mod limits;
mod mirror;
mod pools;
mod raw;
mod stream;
mod tls;
mod upstream;
