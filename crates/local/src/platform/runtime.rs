//! The platform proper, once it is alone in its namespaces.

use std::process::ExitCode;
use crate::Error;
use super::{HostResources, Options};

pub(super) fn run(options: Options, host: HostResources) -> Result<ExitCode, Error> {
    let _ = (options, host);
    Ok(ExitCode::SUCCESS)
}
