//! Header blocks (RFC 7541).

use lateen_http::hpack::{Decoder, Encoder, Field, Indexing, NameId, Sink};

#[derive(Default)]
struct Fields(Vec<(Vec<u8>, Vec<u8>, bool)>);

impl Sink for Fields {
    fn field(&mut self, field: Field<'_>) {
        self.0
            .push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
    }
}

/// Blocks, each after its length in two bytes. What can be decoded is encoded and decoded again.
pub fn decode(mut input: &[u8]) {
    let (mut decoder, mut again) = (Decoder::new(), Decoder::new());
    let mut encoder = Encoder::new(input.len().is_multiple_of(2));
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        input = rest;
        let mut fields = Fields::default();
        if decoder.decode(block, &mut fields).is_err() {
            return;
        }
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for (name, value, sensitive) in &fields.0 {
            let how = match sensitive {
                true => Indexing::Never,
                false => Indexing::Adaptive,
            };
            encoder.field(&mut encoded, (NameId::of(name), name), value, how);
        }
        let mut copy = Fields::default();
        again
            .decode(&encoded, &mut copy)
            .expect("our own encoding is valid");
        assert!(fields.0 == copy.0, "encoding and decoding is the identity");
    }
}
