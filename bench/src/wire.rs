//! Just enough of HTTP/1.1 and HTTP/2 for the two ends of a measurement. Strict where it matters: an
//! answer that is not exactly what was expected ends the run.

pub(crate) mod h1;
pub(crate) mod h2;

/// Bytes of the fixed answer to GET.
pub(crate) const ANSWER: usize = 1024;
/// Bytes of the body that POST sends and gets back.
pub(crate) const ECHO: usize = 4096;
