//! A whole platform on one Linux machine: an API server that `kubectl` can use, controllers, and a node.

pub mod apiserver;
pub mod entry;
mod error;
pub mod images;
pub mod launch;
pub mod platform;
pub mod state;
pub mod store;

mod cluster;
mod container;
mod controllers;
mod dns;
mod events;
mod kubelet;
mod net;
mod services;

pub use apiserver::HOST_USERS;
pub use entry::entry;
pub use error::Error;
pub use kubelet::{NODE_NAME, VIP_POOL};
pub use net::taken_range;
