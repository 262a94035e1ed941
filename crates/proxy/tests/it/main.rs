//! The proxy from the outside: whole exchanges on loopback.

mod common;
mod discovery;
mod http;
mod stream;
mod upstream;
