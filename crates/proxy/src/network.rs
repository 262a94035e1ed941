//! Network filters: what serves the bytes of a connection that is not HTTP.

mod copy;
mod pipe;
mod relay;
mod splice;
mod tcp;
mod tunnel;

pub(crate) use copy::copy;
pub(crate) use tcp::proxy_tcp;
