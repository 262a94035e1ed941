//! The same end from any path.
