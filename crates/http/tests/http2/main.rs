//! The HTTP/2 codec through its public interface: every case of h2spec, floods, flow control, any
//! split of the input, and the `h2` crate as the peer in both roles.

mod flood;
mod flow;
mod messages;
mod peer;
mod raw;
mod spec;
mod split;
