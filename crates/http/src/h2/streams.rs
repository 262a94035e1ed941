//! The open streams of a connection, and what is remembered of closed ones.

use std::collections::VecDeque;

use bytes::Bytes;

use super::window::Receive;
use crate::Headers;

/// One open stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The peer has ended its side.
    pub(super) receive_ended: bool,
    /// A final head came: what follows is a body, then trailers.
    pub(super) head_received: bool,
    /// Server: the final head is sent.
    pub(super) head_sent: bool,
    /// The application has ended our side; the end may still be queued.
    pub(super) end_queued: bool,
    /// Our side's end is in the output.
    pub(super) send_ended: bool,
    /// The stream is in the connection's queue of those that can send.
    pub(super) ready: bool,
    /// Somebody waits for room in the queue.
    pub(super) wants_room: bool,
    /// After our end, the peer shall be told to stop sending.
    pub(super) then_reset: bool,
    /// Client: the response has no body whatever its content-length says.
    pub(super) bodiless: bool,
    /// Client: a 2xx response opens a tunnel, to which no content-length applies.
    pub(super) tunnel: bool,
    /// Bytes of body that must still come, where content-length says so.
    pub(super) expected: Option<u64>,
    /// What we may send.
    pub(super) send_window: i64,
    /// What the peer may send.
    pub(super) receive: Receive,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// Something of the queue went, or it was empty before, since somebody last looked.
    pub(super) moved: bool,
    /// Since which second it has not moved.
    pub(super) stuck_since: u64,
    /// What ends our side after the queue.
    pub(super) trailers: Option<Box<Headers>>,
}

impl Stream {
    pub(super) fn new(id: u32, send_window: u32, receive_window: u32) -> Self {
        Stream {
            id,
            receive_ended: false,
            head_received: false,
            head_sent: false,
            end_queued: false,
            send_ended: false,
            ready: false,
            wants_room: false,
            then_reset: false,
            bodiless: false,
            tunnel: false,
            expected: None,
            send_window: i64::from(send_window),
            receive: Receive::new(receive_window),
            queue: VecDeque::new(),
            queued: 0,
            moved: false,
            stuck_since: 0,
            trailers: None,
        }
    }
}

/// The open streams: a slab, and an index from number to place.
///
/// Numbers grow by two, so that the half of a number, cut to the size of the index, is as good a
/// place as any hash would find; long-lived streams that are in the way are stepped over.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slab: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Slots of the slab plus one, zero for none. A power of two long, at most half full.
    index: Vec<u32>,
    /// How many places of the index are taken by a stream that belongs elsewhere. Mostly none, and
    /// then nothing has to be moved when a stream goes.
    displaced: usize,
}

const SMALLEST_INDEX: usize = 16;

impl Streams {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    #[inline]
    fn place(&self, id: u32) -> usize {
        (id as usize >> 1) & (self.index.len() - 1)
    }

    /// The slot of an open stream.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        if self.index.is_empty() {
            return None;
        }
        let mut place = self.place(id);
        loop {
            let slot = self.index[place].checked_sub(1)? as usize;
            if self.at(slot).id == id {
                return Some(slot);
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    #[inline]
    pub(super) fn at(&self, slot: usize) -> &Stream {
        self.slab[slot].as_ref().expect("slots are of open streams")
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: usize) -> &mut Stream {
        self.slab[slot].as_mut().expect("slots are of open streams")
    }

    /// Adds a stream whose number is not there yet; returns its slot.
    pub(super) fn insert(&mut self, stream: Stream) -> usize {
        if (self.len() + 1) * 2 > self.index.len() {
            self.grow();
        }
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(stream);
                slot
            }
            None => {
                self.slab.push(Some(stream));
                self.slab.len() as u32 - 1
            }
        };
        self.enter(id, slot);
        slot as usize
    }

    fn enter(&mut self, id: u32, slot: u32) {
        let home = self.place(id);
        let mut place = home;
        while self.index[place] != 0 {
            place = (place + 1) & (self.index.len() - 1);
        }
        self.index[place] = slot + 1;
        self.displaced += usize::from(place != home);
    }

    fn grow(&mut self) {
        let size = (self.index.len() * 2).max(SMALLEST_INDEX);
        self.index.clear();
        self.index.resize(size, 0);
        self.displaced = 0;
        for slot in 0..self.slab.len() {
            if let Some(id) = self.slab[slot].as_ref().map(|stream| stream.id) {
                self.enter(id, slot as u32);
            }
        }
    }

    /// Takes out the stream in this slot.
    pub(super) fn remove(&mut self, slot: usize) -> Stream {
        let stream = self.slab[slot].take().expect("slots are of open streams");
        let mask = self.index.len() - 1;
        let home = self.place(stream.id);
        let mut hole = home;
        while self.index[hole] as usize != slot + 1 {
            hole = (hole + 1) & mask;
        }
        self.free.push(slot as u32);
        self.displaced -= usize::from(hole != home);
        if self.displaced > 0 {
            hole = self.close_up(hole);
        }
        self.index[hole] = 0;
        stream
    }

    /// Fills a hole, and the holes that this leaves; the last one is returned.
    fn close_up(&mut self, mut hole: usize) -> usize {
        let mask = self.index.len() - 1;
        // What was pushed on by the one that goes moves back, so that no search ends too early.
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let Some(other) = self.index[next].checked_sub(1) else {
                break;
            };
            let home = self.place(self.at(other as usize).id);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.index[hole] = self.index[next];
                self.displaced -= usize::from(hole == home);
                hole = next;
            }
        }
        hole
    }

    /// The slots of all open streams, in no order.
    pub(super) fn slots(&self) -> Vec<usize> {
        (0..self.slab.len())
            .filter(|slot| self.slab[*slot].is_some())
            .collect()
    }

    /// Every open stream.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slab.iter_mut().flatten()
    }

    /// Gives back memory where no stream is open.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Streams::default();
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.slab.capacity() * size_of::<Option<Stream>>()
            + (self.free.capacity() + self.index.capacity()) * size_of::<u32>()
    }
}

/// How a stream that is not open any more ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// By END_STREAM from both sides, or by the peer's RST_STREAM: nothing may follow.
    Done,
    /// By us: frames that the peer sent before it knew of it are on their way.
    ResetByUs,
    /// Too long ago to know, or never opened.
    Forgotten,
}

/// Streams that are remembered after they closed.
const REMEMBERED: usize = 128;
/// Marks those that we reset. Stream numbers have 31 bits.
const BY_US: u32 = 1 << 31;

/// The last streams that closed.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    ring: VecDeque<u32>,
}

impl ClosedStreams {
    pub(super) fn add(&mut self, id: u32, by_us: bool) {
        if self.ring.len() == REMEMBERED {
            self.ring.pop_front();
        }
        self.ring.push_back(id | if by_us { BY_US } else { 0 });
    }

    pub(super) fn how(&self, id: u32) -> Closed {
        for closed in self.ring.iter().rev() {
            if closed & !BY_US == id {
                return match closed & BY_US {
                    0 => Closed::Done,
                    _ => Closed::ResetByUs,
                };
            }
        }
        Closed::Forgotten
    }

    pub(super) fn shrink(&mut self) {
        self.ring = VecDeque::new();
    }

    pub(super) fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_index_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..60), 0..100)) {
            let mut streams = Streams::default();
            let mut model = HashMap::new();
            for (add, n) in steps {
                let id = n * 2 + 1;
                if add && !model.contains_key(&id) {
                    model.insert(id, streams.insert(Stream::new(id, 1, 1)));
                } else if let Some(slot) = model.remove(&id) {
                    prop_assert_eq!(streams.remove(slot).id, id);
                }
                prop_assert_eq!(streams.len(), model.len());
                for n in 0..60 {
                    let id = n * 2 + 1;
                    prop_assert_eq!(streams.find(id), model.get(&id).copied());
                }
            }
        }
    }
}
