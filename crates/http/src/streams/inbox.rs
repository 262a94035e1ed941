//! What came on a stream and waits to be taken. Its size is bounded by flow control, and so that
//! this holds for memory too, small pieces are joined and none keeps a large block alive for long.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::Headers;

/// Pieces that must wait and are smaller than this are copied, so that they do not hold the block
/// that was read.
const SMALL: usize = 4 * 1024;
/// Small pieces are joined up to this size.
const JOINED: usize = 16 * 1024;
/// A body up to this size is handed over as a whole where it is here as a whole. What is handed
/// over counts as consumed, so the sum over all streams must be bearable.
const WHOLE: usize = 64 * 1024;

/// The received side of a stream.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The first piece, which is mostly the only one; empty for none.
    first: Bytes,
    more: VecDeque<Bytes>,
    length: usize,
    trailers: Option<Headers>,
    ended: bool,
}

impl Inbox {
    /// Takes in a piece that came.
    pub(crate) fn push(&mut self, data: Bytes, end: bool) {
        self.ended |= end;
        if data.is_empty() {
            return;
        }
        self.length += data.len();
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        let last = self.more.back_mut().unwrap_or(&mut self.first);
        if data.len() >= SMALL {
            self.more.push_back(data);
        } else if last.len() + data.len() <= JOINED {
            let mut joined = std::mem::take(last)
                .try_into_mut()
                .unwrap_or_else(|last| BytesMut::from(&last[..]));
            joined.extend_from_slice(&data);
            *last = joined.freeze();
        } else {
            self.more.push_back(Bytes::copy_from_slice(&data));
        }
    }

    /// Takes in what ends a message.
    pub(crate) fn push_trailers(&mut self, trailers: Headers) {
        self.ended = true;
        self.trailers = Some(trailers);
    }

    /// There is neither body nor trailers.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// True where the peer has sent everything.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// True where everything was sent and taken.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.length == 0 && self.trailers.is_none()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Only trailers are left, or will come.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.pop_part(usize::MAX)
    }

    /// The next piece, `most` bytes of it.
    pub(crate) fn pop_part(&mut self, most: usize) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let data = if self.first.len() > most {
            self.first.split_to(most)
        } else {
            let next = self.more.pop_front().unwrap_or_default();
            std::mem::replace(&mut self.first, next)
        };
        self.length -= data.len();
        Some(data)
    }

    /// The trailers, once the data is taken.
    pub(crate) fn pop_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }

    /// All of a body, where it is here and small.
    pub(crate) fn take_whole(&mut self) -> Option<(Bytes, Option<Headers>)> {
        if !self.ended || self.length > WHOLE {
            return None;
        }
        let data = if self.more.is_empty() {
            self.pop().unwrap_or_default()
        } else {
            let mut all = BytesMut::with_capacity(self.length);
            while let Some(piece) = self.pop() {
                all.extend_from_slice(&piece);
            }
            all.freeze()
        };
        Some((data, self.trailers.take()))
    }

    /// Forgets what waits; the number of bytes is returned.
    pub(crate) fn clear(&mut self) -> usize {
        self.first.clear();
        self.more.clear();
        self.trailers = None;
        std::mem::take(&mut self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_and_order_is_kept() {
        let mut inbox = Inbox::default();
        let mut expect = Vec::new();
        for n in 0..20_000u32 {
            let data = if n % 5000 == 4999 {
                vec![n as u8; SMALL]
            } else {
                vec![n as u8]
            };
            expect.extend_from_slice(&data);
            inbox.push(data.into(), false);
        }
        assert!(inbox.more.len() < 20, "{}", inbox.more.len());
        assert_eq!(inbox.len(), expect.len());
        let mut got = Vec::new();
        while let Some(data) = inbox.pop_part(1000) {
            assert!(data.len() <= 1000);
            got.extend_from_slice(&data);
        }
        assert!(got == expect);
        assert_eq!(inbox.len(), 0);
    }

    #[test]
    fn a_whole_body_is_given_as_one() {
        let mut inbox = Inbox::default();
        inbox.push(vec![1; SMALL].into(), false);
        assert!(inbox.take_whole().is_none(), "it has not ended");
        inbox.push(vec![2; SMALL].into(), false);
        inbox.push_trailers(Headers::new());
        assert!(!inbox.is_done());
        let (data, trailers) = inbox.take_whole().expect("whole");
        assert_eq!((data.len(), data[0], data[SMALL]), (2 * SMALL, 1, 2));
        assert!(trailers.is_some() && inbox.is_done());
    }

    #[test]
    fn a_large_body_is_not() {
        let mut inbox = Inbox::default();
        inbox.push(vec![1; WHOLE + 1].into(), true);
        assert!(inbox.take_whole().is_none());
        assert_eq!(inbox.clear(), WHOLE + 1);
        assert!(inbox.is_done());
    }
}
