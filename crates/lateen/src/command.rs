//! One module a command.

pub(crate) mod admin;
pub(crate) mod analyze;
pub(crate) mod bug_report;
pub(crate) mod cluster;
pub(crate) mod dashboard;
pub(crate) mod down;
pub(crate) mod explain;
pub(crate) mod image;
pub(crate) mod install;
pub(crate) mod kube_inject;
pub(crate) mod layers;
pub(crate) mod manifest;
pub(crate) mod precheck;
pub(crate) mod profile;
pub(crate) mod proxy_config;
pub(crate) mod proxy_status;
pub(crate) mod status;
pub(crate) mod tag;
pub(crate) mod uninstall;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod verify_install;
pub(crate) mod version;
pub(crate) mod wait;
