//! Netlink framing: messages of nested, four-byte aligned attributes.

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER_LEN: usize = 16;

/// A buffer into which whole netlink messages are written one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// What the generic netfilter header of a message says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
    pub(super) family: u8,
    pub(super) resource: u16,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Sets further flags of the message that starts at `start`.
    pub(super) fn add_flags(&mut self, start: usize, flags: u16) {
        const FLAGS: usize = 6;
        for (byte, flag) in self
            .bytes
            .iter_mut()
            .skip(start + FLAGS)
            .zip(flags.to_ne_bytes())
        {
            *byte |= flag;
        }
    }

    /// Writes one message; `body` adds its attributes.
    pub(super) fn message(&mut self, head: Head, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&head.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&head.seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[head.family, 0]);
        self.bytes.extend_from_slice(&head.resource.to_be_bytes());
        body(self);
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.align();
    }

    /// A 32-bit number in network order, which is what nf_tables uses for its own attributes.
    pub(super) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with the terminating zero that the kernel expects.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        let mut text = value.as_bytes().to_vec();
        text.push(0);
        self.bytes(kind, &text);
    }

    /// An attribute that holds attributes.
    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        const NESTED: u16 = 0x8000;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.align();
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One answer of the kernel: the sequence number of the message it is about, and the error number
/// (0 is an acknowledgement).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) seq: u32,
    pub(super) errno: i32,
}

/// Reads the `NLMSG_ERROR` messages of one datagram; other kinds are skipped.
pub(super) fn parse_acks(mut datagram: &[u8]) -> Vec<Ack> {
    const NLMSG_ERROR: u16 = 2;
    let mut acks = Vec::new();
    while datagram.len() >= HEADER_LEN {
        let word = |at: usize| {
            let bytes = datagram.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let Some(len) = word(0).map(|len| len as usize) else {
            break;
        };
        if len < HEADER_LEN || len > datagram.len() {
            break;
        }
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        if kind == NLMSG_ERROR
            && let (Some(seq), Some(code)) = (word(8), word(HEADER_LEN))
        {
            acks.push(Ack {
                seq,
                errno: code.cast_signed().saturating_neg(),
            });
        }
        datagram = &datagram[len.next_multiple_of(4).min(datagram.len())..];
    }
    acks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_their_length_is_not() {
        let mut writer = Writer::default();
        writer.nest(3, |w| w.string(1, "abcd"));
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 16);
        assert_eq!(u16::from_ne_bytes([bytes[0], bytes[1]]), 16);
        assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]), 0x8003);
        assert_eq!(u16::from_ne_bytes([bytes[4], bytes[5]]), 9);
    }

    #[test]
    fn truncated_answers_are_ignored() {
        let mut answer = Vec::new();
        answer.extend_from_slice(&36_u32.to_ne_bytes());
        answer.extend_from_slice(&2_u16.to_ne_bytes());
        answer.extend_from_slice(&[0; 2]);
        answer.extend_from_slice(&7_u32.to_ne_bytes());
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(&(-2_i32).to_ne_bytes());
        answer.extend_from_slice(&[0; 16]);
        assert_eq!(parse_acks(&answer), [Ack { seq: 7, errno: 2 }]);
        for cut in 0..answer.len() {
            assert!(parse_acks(&answer[..cut]).is_empty(), "cut at {cut}");
        }
    }
}
