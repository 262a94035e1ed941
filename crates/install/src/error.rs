//! What can be wrong with what an installation is asked to be.

use lateen_api::fault::{Fault, describe};

/// Why an installation cannot be worked out. Each says where, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no such profile.
    #[error("there is no profile {name:?}; {help}")]
    Profile {
        /// What was asked for.
        name: String,
        /// Which one was meant, or which there are.
        help: String,
    },
    /// There is no such addon.
    #[error("there is no addon {name:?}; {help}")]
    Addon {
        /// What was asked for.
        name: String,
        /// Which one was meant, or which there are.
        help: String,
    },
    /// A flag cannot be read, or names what there is not.
    #[error("--set {flag}: {reason}")]
    Set {
        /// As it was written.
        flag: String,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong, with its line where it has one.
        reason: String,
    },
    /// Fields of a file that are not known, or of another type.
    #[error("{}", lines(.file, .faults))]
    Fields {
        /// Its name.
        file: String,
        /// What is wrong, with the line of each, from 1.
        faults: Vec<(usize, Fault)>,
    },
    /// What all layers say together makes no sense.
    #[error("{}", describe(.0))]
    Together(Vec<Fault>),
    /// A part that the program does not have.
    #[error("{what} is not supported: {help}")]
    NotSupported {
        /// The part.
        what: String,
        /// What to do.
        help: String,
    },
    /// A change to an object that cannot be made.
    #[error("overlay of {kind} {name}, {path}: {reason}")]
    Overlay {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// The path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

fn lines(file: &str, faults: &[(usize, Fault)]) -> String {
    let lines = faults
        .iter()
        .map(|(line, fault)| format!("{file}:{line}: {fault}"));
    lines.collect::<Vec<_>>().join("\n")
}
