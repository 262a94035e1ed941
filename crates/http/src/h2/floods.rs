//! Bounds on what a peer can make us do for nothing.
//!
//! Each kind of useless work is counted, and every second the counts are halved, so that a bound of
//! N allows bursts of N and about N/2 each second for ever. Where honest peers do the same in
//! proportion to their work, the bound is a ratio as in Envoy's codec. Memory has bounds of its own:
//! see [`Config`](super::Config).

use super::{Code, ConnectionError};

/// The bounds.
pub mod limits {
    /// Streams that the peer may reset before their response began, and that are more than half of
    /// all (rapid reset, CVE-2023-44487). Envoy counts to the same figure.
    pub const PREMATURE_RESETS: u32 = 500;
    /// Streams that the peer may make us reset by breaking the protocol, and that are more than
    /// half of all (made-you-reset, CVE-2025-8671).
    pub const PROVOKED_RESETS: u32 = 100;
    /// Streams that we refuse as too many, once the peer has acknowledged how many it may open.
    pub const REFUSED_STREAMS: u32 = 1000;
    /// PING frames without ACK (CVE-2019-9512).
    pub const PINGS: u32 = 1000;
    /// SETTINGS frames (CVE-2019-9515).
    pub const SETTINGS: u32 = 100;
    /// Entries in one SETTINGS frame (CVE-2020-11080); the protocol knows eight.
    pub const SETTINGS_ENTRIES: usize = 64;
    /// PRIORITY and PRIORITY_UPDATE frames for each stream opened, and for the connection
    /// (CVE-2019-9513). Envoy's `max_inbound_priority_frames_per_stream`.
    pub const PRIORITIES: u32 = 100;
    /// WINDOW_UPDATE frames for each DATA frame that we sent and for each stream. Envoy's
    /// `max_inbound_window_update_frames_per_data_frame_sent`.
    pub const WINDOW_UPDATES_PER_FRAME: u32 = 10;
    /// WINDOW_UPDATE frames beyond that ratio.
    pub const WINDOW_UPDATES: u32 = 1000;
    /// DATA frames that neither carry a byte nor end a stream (CVE-2019-9518).
    pub const EMPTY_DATA: u32 = 100;
    /// Frames for streams that have ended, and frames of unknown types.
    pub const IGNORED_FRAMES: u32 = 1000;
    /// CONTINUATION frames of one head (CVE-2024-27316).
    pub const CONTINUATIONS: u32 = 32;
    /// How many times the largest head that we take
    /// ([`Config::max_head_bytes`](crate::h2::Config::max_head_bytes)) a header block in several
    /// frames may have in bytes, before anything of it is decoded. What is beyond ends the
    /// connection; what is below, and too large, its stream.
    pub const BLOCKS: usize = 4;
    /// Cookie fields in one head (CVE-2026-47774): browsers send one for each cookie. Their bytes
    /// count like those of every field, and they are joined under the same bound.
    pub const COOKIE_CRUMBS: u32 = 256;
    /// Control frames that wait to be written because the peer does not read (CVE-2019-9517).
    /// Envoy's `max_outbound_control_frames`.
    pub const PENDING_CONTROL_FRAMES: u32 = 1000;
    /// Bytes of heads, control frames and small payloads that wait to be written before a new
    /// stream or control frame of the peer ends the connection.
    pub const PENDING_BYTES: usize = 4 * 1024 * 1024;
}

/// The counts of one connection.
#[derive(Debug, Default)]
pub(super) struct Floods {
    second: u64,
    opened: u32,
    data_sent: u32,
    premature: u32,
    provoked: u32,
    refused: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    window_updates: u32,
    empty_data: u32,
    ignored: u32,
}

type Bound = Result<(), ConnectionError>;

impl Floods {
    /// Halves the counts for each second since the last call.
    pub(super) fn clock(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        self.second = second;
        let shift = passed.min(31) as u32;
        for count in [
            &mut self.opened,
            &mut self.data_sent,
            &mut self.premature,
            &mut self.provoked,
            &mut self.refused,
            &mut self.pings,
            &mut self.settings,
            &mut self.priorities,
            &mut self.window_updates,
            &mut self.empty_data,
            &mut self.ignored,
        ] {
            *count >>= shift;
        }
    }

    /// A stream was opened, by whichever side.
    #[inline]
    pub(super) fn opened(&mut self) {
        self.opened = self.opened.saturating_add(1);
    }

    /// We sent a DATA frame.
    #[inline]
    pub(super) fn data_sent(&mut self) {
        self.data_sent = self.data_sent.saturating_add(1);
    }

    /// The peer reset a stream to which we had not answered.
    pub(super) fn premature_reset(&mut self) -> Bound {
        let half = self.opened / 2;
        let most = limits::PREMATURE_RESETS.max(half);
        count(&mut self.premature, most, "too many streams reset early")
    }

    /// The peer broke the protocol on a stream, which we reset.
    pub(super) fn provoked_reset(&mut self) -> Bound {
        let most = limits::PROVOKED_RESETS.max(self.opened / 2);
        count(&mut self.provoked, most, "too many malformed streams")
    }

    /// A stream beyond the number that we allow.
    pub(super) fn refused(&mut self) -> Bound {
        let most = limits::REFUSED_STREAMS;
        count(&mut self.refused, most, "too many refused streams")
    }

    pub(super) fn ping(&mut self) -> Bound {
        count(&mut self.pings, limits::PINGS, "too many pings")
    }

    pub(super) fn settings(&mut self) -> Bound {
        count(&mut self.settings, limits::SETTINGS, "too many settings")
    }

    pub(super) fn priority(&mut self) -> Bound {
        let most = self.opened.saturating_add(1) as u64 * u64::from(limits::PRIORITIES);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        count(&mut self.priorities, most, "too many priorities")
    }

    pub(super) fn window_update(&mut self) -> Bound {
        let work = self.data_sent.saturating_add(self.opened);
        let most = work
            .saturating_mul(limits::WINDOW_UPDATES_PER_FRAME)
            .saturating_add(limits::WINDOW_UPDATES);
        count(&mut self.window_updates, most, "too many window updates")
    }

    pub(super) fn empty_data(&mut self) -> Bound {
        let most = limits::EMPTY_DATA;
        count(&mut self.empty_data, most, "too many empty frames")
    }

    /// A frame without any effect.
    pub(super) fn ignored(&mut self) -> Bound {
        let most = limits::IGNORED_FRAMES;
        count(&mut self.ignored, most, "too many useless frames")
    }
}

fn count(counter: &mut u32, most: u32, reason: &'static str) -> Bound {
    *counter = counter.saturating_add(1);
    if *counter > most {
        return Err(calm(reason));
    }
    Ok(())
}

/// The error for a peer that costs too much.
pub(super) fn calm(reason: &'static str) -> ConnectionError {
    ConnectionError {
        code: Code::ENHANCE_YOUR_CALM,
        reason,
    }
}
