//! What waits to be written: one growing buffer, between whose parts large payloads ride uncopied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Payloads up to this size are copied into the buffer: a copy of two kilobytes costs less than
/// another element of a vectored write and the reference count.
const COPY_UP_TO: usize = 2048;

/// The written front of the buffer that is tolerated before the rest moves to the start.
const DEAD_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Output {
    /// Frame headers, heads, control frames and small payloads.
    bytes: Vec<u8>,
    /// So much of `bytes` is written.
    written: usize,
    /// Payloads, each with the place in `bytes` before which it goes.
    payloads: VecDeque<(usize, Bytes)>,
    /// Bytes left in `payloads`.
    in_payloads: usize,
    /// Bytes of the buffer that were written and removed, over its life.
    removed: u64,
}

impl Output {
    /// The buffer, to append whole frames to.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[inline]
    pub(super) fn frame(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Adds a payload after the frame header that was just appended.
    #[inline]
    pub(super) fn payload(&mut self, payload: Bytes) {
        if payload.len() <= COPY_UP_TO {
            self.bytes.extend_from_slice(&payload);
            return;
        }
        self.in_payloads += payload.len();
        self.payloads.push_back((self.bytes.len(), payload));
    }

    /// Bytes that are not written yet.
    #[inline]
    pub(super) fn pending(&self) -> usize {
        self.staged() + self.in_payloads
    }

    /// Of these, the ones in the buffer.
    #[inline]
    pub(super) fn staged(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes of the buffer that were ever written.
    #[inline]
    pub(super) fn position_written(&self) -> u64 {
        self.removed + self.written as u64
    }

    /// Bytes that ever went into the buffer.
    #[inline]
    pub(super) fn position_end(&self) -> u64 {
        self.removed + self.bytes.len() as u64
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.pending() == 0
    }

    /// Shows what to write next, in order; returns how many slices were filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        let mut at = self.written;
        let mut fill = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = slices.get_mut(n) else {
                return false;
            };
            *slot = IoSlice::new(bytes);
            n += 1;
            true
        };
        for (place, payload) in &self.payloads {
            if !fill(&self.bytes[at..*place]) || !fill(payload) {
                return n;
            }
            at = *place;
        }
        fill(&self.bytes[at..]);
        n
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let place = self
                .payloads
                .front()
                .map_or(self.bytes.len(), |next| next.0);
            let staged = (place - self.written).min(n);
            self.written += staged;
            n -= staged;
            if n == 0 {
                break;
            }
            let Some((_, payload)) = self.payloads.front_mut() else {
                debug_assert!(false, "more was written than shown");
                break;
            };
            let taken = payload.len().min(n);
            payload.advance(taken);
            self.in_payloads -= taken;
            n -= taken;
            if payload.is_empty() {
                self.payloads.pop_front();
            }
        }
        self.close_up();
    }

    fn close_up(&mut self) {
        if self.written == self.bytes.len() && self.payloads.is_empty() {
            self.removed += self.written as u64;
            self.bytes.clear();
            self.written = 0;
        } else if self.written > DEAD_BYTES.max(self.bytes.len() / 2) {
            self.removed += self.written as u64;
            self.bytes.drain(..self.written);
            for (place, _) in &mut self.payloads {
                *place -= self.written;
            }
            self.written = 0;
        }
    }

    /// Gives back memory where nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Output {
                removed: self.removed,
                ..Output::default()
            };
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.payloads.capacity() * size_of::<(usize, Bytes)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_order_however_they_are_written() {
        for step in [1, 2, 7, 100, 5000, 100_000] {
            let mut output = Output::default();
            let mut expect = Vec::new();
            for n in 0..16usize {
                let head = [n as u8; 9];
                output.frame(&head);
                expect.extend_from_slice(&head);
                let payload = vec![0x80 | n as u8; n * 211];
                expect.extend_from_slice(&payload);
                output.payload(payload.into());
            }
            assert_eq!(output.pending(), expect.len());
            let mut got: Vec<u8> = Vec::new();
            while !output.is_empty() {
                let mut slices = [IoSlice::new(&[]); 5];
                let n = output.slices(&mut slices);
                let shown = slices[..n].iter().flat_map(|slice| slice.iter());
                let before = got.len();
                got.extend(shown.take(step));
                let taken = got.len() - before;
                output.advance(taken);
            }
            assert!(got == expect, "step {step}");
            output.shrink();
            assert_eq!(output.memory(), 0);
        }
    }
}
