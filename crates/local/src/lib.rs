//! A whole platform on one Linux machine: an API server that `kubectl` can use, controllers, and a node.

pub mod apiserver;
pub mod entry;
mod error;
pub mod images;
pub mod launch;
pub mod platform;
pub mod state;
pub mod store;

mod container;
mod events;
mod kubelet;
mod net;

pub use entry::entry;
pub use error::Error;
