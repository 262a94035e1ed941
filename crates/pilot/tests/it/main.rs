//! The discovery server with clients: our own, and real Envoy.

mod bootstrap;
mod debug;
mod distribution;
mod envoy;
mod fixture;
mod follower;
mod limits;
mod paths;
mod reconnect;
mod registration;
mod unread;
