//! SETTINGS (RFC 9113, section 6.5, and RFC 8441, section 3).

use super::floods::{calm, limits};
use super::frame::{Header, kind};
use super::window::{DEFAULT, LARGEST};
use super::{Code, Config, ConnectionError, Role};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// Streams that we open before the peer has said how many it takes.
const STREAMS_BEFORE_SETTINGS: u32 = 100;

/// What the peer has set.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerSettings {
    pub(super) header_table_size: u32,
    pub(super) max_concurrent_streams: u32,
    pub(super) initial_window: u32,
    pub(super) max_frame_size: u32,
    pub(super) connect_protocol: bool,
    /// Settings have come.
    pub(super) known: bool,
}

impl PeerSettings {
    pub(super) fn new() -> Self {
        PeerSettings {
            header_table_size: crate::hpack::DEFAULT_TABLE_SIZE as u32,
            max_concurrent_streams: STREAMS_BEFORE_SETTINGS,
            initial_window: DEFAULT,
            max_frame_size: 1 << 14,
            connect_protocol: false,
            known: false,
        }
    }

    /// Takes a SETTINGS frame of a peer; `role` is ours. The smallest header table size on the way
    /// is returned, since the encoder must announce it.
    pub(super) fn apply(&mut self, payload: &[u8], role: Role) -> Result<u32, ConnectionError> {
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(error(Code::FRAME_SIZE_ERROR, "SETTINGS of a wrong size"));
        }
        if entries.len() > limits::SETTINGS_ENTRIES {
            return Err(calm("too many entries in SETTINGS"));
        }
        if !self.known {
            self.known = true;
            self.max_concurrent_streams = u32::MAX;
        }
        let mut smallest_table = u32::MAX;
        for [a, b, value @ ..] in entries {
            let id = u16::from_be_bytes([*a, *b]);
            self.set(id, u32::from_be_bytes(*value), role)?;
            smallest_table = smallest_table.min(self.header_table_size);
        }
        Ok(smallest_table.min(self.header_table_size))
    }

    fn set(&mut self, id: u16, value: u32, role: Role) -> Result<(), ConnectionError> {
        match id {
            HEADER_TABLE_SIZE => self.header_table_size = value,
            // A server must not set it to one, and whoever does so is no client of ours.
            ENABLE_PUSH if value > 1 || (value == 1 && role == Role::Client) => {
                return Err(protocol("invalid ENABLE_PUSH"));
            }
            MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
            INITIAL_WINDOW_SIZE if i64::from(value) > LARGEST => {
                return Err(error(
                    Code::FLOW_CONTROL_ERROR,
                    "invalid INITIAL_WINDOW_SIZE",
                ));
            }
            INITIAL_WINDOW_SIZE => self.initial_window = value,
            MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                return Err(protocol("invalid MAX_FRAME_SIZE"));
            }
            MAX_FRAME_SIZE => self.max_frame_size = value,
            ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.connect_protocol) => {
                return Err(protocol("invalid ENABLE_CONNECT_PROTOCOL"));
            }
            ENABLE_CONNECT_PROTOCOL => self.connect_protocol = value == 1,
            // What is not known must be ignored.
            _ => {}
        }
        Ok(())
    }
}

/// Our own settings as a frame: those that differ from what holds without them.
pub(super) fn announce(out: &mut Vec<u8>, role: Role, config: &Config) {
    let start = out.len();
    out.extend_from_slice(&[0; super::frame::HEADER]);
    let mut set = |id: u16, value: u32| {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    };
    if config.header_table_size != PeerSettings::new().header_table_size {
        set(HEADER_TABLE_SIZE, config.header_table_size);
    }
    match role {
        Role::Client => set(ENABLE_PUSH, 0),
        Role::Server => {
            set(MAX_CONCURRENT_STREAMS, config.max_concurrent_streams);
            if config.enable_connect_protocol {
                set(ENABLE_CONNECT_PROTOCOL, 1);
            }
        }
    }
    if config.initial_window != DEFAULT {
        set(INITIAL_WINDOW_SIZE, config.initial_window);
    }
    if config.max_frame_size != 1 << 14 {
        set(MAX_FRAME_SIZE, config.max_frame_size);
    }
    set(MAX_HEADER_LIST_SIZE, config.max_head_bytes);
    let header = Header {
        length: out.len() - start - super::frame::HEADER,
        kind: kind::SETTINGS,
        flags: 0,
        id: 0,
    };
    out[start..start + super::frame::HEADER].copy_from_slice(&header.bytes());
}

fn protocol(reason: &'static str) -> ConnectionError {
    error(Code::PROTOCOL_ERROR, reason)
}

fn error(code: Code, reason: &'static str) -> ConnectionError {
    ConnectionError { code, reason }
}
