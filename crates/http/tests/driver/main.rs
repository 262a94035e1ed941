//! The driver against itself and against hyper, over pipes and loopback sockets.

mod http1_client;
mod http1_server;
mod http1_turns;
mod http2_bodies;
mod http2_ends;
mod http2_hyper;
mod http2_messages;
mod http2_pool;
mod http2_tunnels;
mod http2_writes;
mod limits;
mod support;
