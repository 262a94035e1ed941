//! Writes `status.json`, from which `lateen up` and `lateen status` learn how things stand.

use crate::Error;
use crate::state::{Status, StateDir, write_json};

/// Leaves the reason why the platform could not start where `lateen up` looks for it.
pub(super) fn write_failed(state: &StateDir, name: &str, error: &Error) {
    let status = Status {
        name: name.to_owned(),
        state: format!("failed: {error}"),
        ..Status::default()
    };
    let _ = write_json(&state.status_file(), &status);
}
