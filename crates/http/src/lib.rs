//! The data path's HTTP engine: one head type, one streaming body, a server driver and client
//! connections with a pool.
//!
//! Invariant: no type of the underlying HTTP library appears in this crate's public interface, so
//! that the engine beneath can be replaced without touching its users. No policy and no mesh type
//! lives here.

mod body;
mod client;
mod convert;
mod error;
mod head;
mod headers;
mod pool;
mod server;
mod upgrade;

pub use body::{Body, Frame, Source};
pub use client::{ClientConfig, Connection, connect};
pub use error::{BodyError, Error, SendError};
pub use head::{Method, Request, RequestHead, Response, ResponseHead, Scheme, Version};
pub use headers::{Headers, InvalidHeader, Value};
pub use pool::{Lease, Pool};
pub use server::{Abort, Handler, Protocol, ServerConfig, serve};
pub use upgrade::{Upgrade, Upgraded};
