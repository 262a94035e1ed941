//! A whole platform on one Linux machine: an API server that `kubectl` can use, controllers, and a node.

pub mod apiserver;
pub mod store;
