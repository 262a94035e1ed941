//! HTTP/2 (RFC 9113) without I/O: bytes in, events out; calls in, bytes out. Both roles.
//!
//! The driver reads into a `BytesMut`, hands it to [`Connection::receive`], takes events until there
//! are none, calls the `send_…` functions, and writes what [`Connection::output_slices`] shows, once
//! per turn of its loop. Time comes in as whole seconds by [`Connection::clock`], so that the bounds
//! against floods forgive what lies back.
//!
//! Invariants: streams are found by array index, not by hashing; a frame is no object; a connection
//! without streams owns nothing but its compression tables once [`Connection::shrink`] was called;
//! whatever a peer can make us keep or do has a bound with a name, in [`Config`] or in `floods.rs`.

mod code;
mod config;
mod connection;
mod event;
mod floods;
mod frame;
mod head_in;
mod head_out;
mod output;
mod receive;
mod receive_control;
mod receive_head;
mod send;
mod settings;
mod streams;
mod window;

pub use code::Code;
pub use config::{Config, Role};
pub use connection::Connection;
pub use event::{CannotSend, ConnectionError, Event, ResetBy, StreamId};
pub use floods::limits;
pub use frame::PREFACE;
