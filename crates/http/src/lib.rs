//! The data path's HTTP engine.
//!
//! Two layers. Beneath are the codecs, [`h1`] and [`h2`]: they turn bytes into heads and bodies and
//! back, know neither sockets nor clocks, and can be tested and fuzzed as functions. Above is the
//! driver for tokio: servers, client connections and a pool of them.
//!
//! No policy and no mesh type lives here.

mod body;
mod client;
mod error;
pub mod h1;
pub mod h2;
mod head;
mod headers;
pub mod hpack;
mod incoming;
mod message;
mod names;
mod pool;
mod server;
mod streams;
mod timer;
mod transport;
mod turn;
mod upgrade;
mod websocket;
mod writer;

pub use body::{Body, Frame, Source};
pub use client::{ClientConfig, Connection, Keepalive, connect};
pub use error::{BodyError, BodyFault, Error, SendError};
pub use head::{Method, RequestHead, ResponseHead, Scheme, Version};
pub use headers::{FieldName, FieldRef, Headers, InvalidHeader, Value};
pub use message::{Interim, Request, Response};
pub use names::Known;
pub use pool::{Freed, Lease, Pool};
pub use server::{Abort, Handler, Protocol, ServerConfig, Serving, serve};
pub use transport::Io;
pub use turn::flush_turns;
pub use upgrade::{Upgrade, Upgraded};
