//! Error codes (RFC 9113, section 7).

use std::fmt;

/// Why a stream was reset or a connection closed. Unknown codes are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// No error.
    pub const NO_ERROR: Code = Code(0x0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Code = Code(0x1);
    /// A fault of the endpoint itself.
    pub const INTERNAL_ERROR: Code = Code(0x2);
    /// More was sent than a window allowed.
    pub const FLOW_CONTROL_ERROR: Code = Code(0x3);
    /// Settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Code = Code(0x4);
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: Code = Code(0x5);
    /// A frame of a wrong size.
    pub const FRAME_SIZE_ERROR: Code = Code(0x6);
    /// The stream was not processed at all: it can be tried again.
    pub const REFUSED_STREAM: Code = Code(0x7);
    /// The stream is not needed any more.
    pub const CANCEL: Code = Code(0x8);
    /// The compression state is lost.
    pub const COMPRESSION_ERROR: Code = Code(0x9);
    /// The connection of a CONNECT request failed.
    pub const CONNECT_ERROR: Code = Code(0xa);
    /// The peer does too much that costs us.
    pub const ENHANCE_YOUR_CALM: Code = Code(0xb);
    /// The transport is not secure enough.
    pub const INADEQUATE_SECURITY: Code = Code(0xc);
    /// HTTP/1.1 must be used.
    pub const HTTP_1_1_REQUIRED: Code = Code(0xd);

    /// The name in the specification, where it has one.
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}
