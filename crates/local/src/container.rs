//! Containers: processes in their pod's namespaces, on a copy-on-write view of the host's files.
//!
//! The platform starts `lateen container` from a thread inside the pod's namespaces; that process is pid 1
//! of a pid namespace of its own ([`shim`]), builds the root ([`root`]), starts the program ([`user`]) and
//! reports over its standard input, a socket. When it dies, by whatever cause, the kernel kills the rest.

pub(crate) mod exec;
pub(crate) mod process;
mod root;
pub(crate) mod shim;
mod spec;
mod user;
pub(crate) mod users;

pub(crate) use root::scratch_dir;
pub(crate) use spec::{Capabilities, ContainerSpec, Mount};
pub(crate) use users::OwnUsers;
