//! The examples of RFC 7541, round trips, and what other encoders make.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Default)]
struct List(Vec<(String, String, bool)>);

impl Sink for List {
    fn field(&mut self, field: Field<'_>) {
        assert_eq!(field.id, NameId::of(field.name), "{field:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, value) = (text(field.name), text(field.value));
        self.0.push((name, value, field.sensitive));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
    let mut list = List::default();
    decoder.decode(block, &mut list)?;
    Ok(list.0.into_iter().map(|(n, v, _)| (n, v)).collect())
}

fn check(blocks: &[(&str, &[(&str, &str)])]) {
    let mut decoder = Decoder::new();
    for (block, expect) in blocks {
        let got = decode(&mut decoder, &unhex(block)).expect("a valid block");
        let expect: Vec<(String, String)> = expect
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(got, expect, "{block}");
    }
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
];

#[test]
fn literals_of_appendix_c_2() {
    check(&[(
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
    )]);
    check(&[(
        "040c 2f73 616d 706c 652f 7061 7468",
        &[(":path", "/sample/path")],
    )]);
    check(&[("82", &[(":method", "GET")])]);
    let mut list = List::default();
    let block = unhex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    Decoder::new()
        .decode(&block, &mut list)
        .expect("a valid block");
    let expect = ("password".to_owned(), "secret".to_owned(), true);
    assert_eq!(list.0, [expect]);
}

#[test]
fn requests_of_appendix_c_3_and_c_4() {
    let mut second = GET.to_vec();
    second.push(("cache-control", "no-cache"));
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    check(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &GET),
        ("8286 84be 5808 6e6f 2d63 6163 6865", &second),
        (
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            &third,
        ),
    ]);
    check(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &GET),
        ("8286 84be 5886 a8eb 1064 9cbf", &second),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            &third,
        ),
    ]);
}

#[test]
fn responses_of_appendix_c_5_and_c_6_evict() {
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let rest = [
        ("cache-control", "private"),
        ("date", date),
        ("location", "https://www.example.com"),
    ];
    let with = |status| [&[(":status", status)][..], &rest].concat();
    let third = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ];
    // The examples assume a table of 256 bytes, which the first three bytes here set.
    check(&[
        (
            "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230
             3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            &with("302"),
        ),
        ("4803 3330 37c1 c0bf", &with("307")),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            &third,
        ),
    ]);
    check(&[
        (
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0
             82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            &with("302"),
        ),
        ("4883 640e ffc1 c0bf", &with("307")),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
             65c0 03ed 4ee5 b106 3d50 07",
            &third,
        ),
    ]);
}

#[test]
fn blocks_that_cannot_be_decoded() {
    let check = |block: &[u8], expect: HpackError| {
        assert_eq!(
            decode(&mut Decoder::new(), block),
            Err(expect),
            "{block:x?}"
        );
    };
    check(&[0x80], HpackError::Index);
    check(&[0xbe], HpackError::Index);
    check(&[0x7e, 0], HpackError::Index);
    check(&[0x0f, 0x2f, 0], HpackError::Index);
    check(&[0xff], HpackError::Truncated);
    check(&[0x40], HpackError::Truncated);
    check(&[0x40, 3, b'a'], HpackError::Truncated);
    check(&[0, 1, b'a'], HpackError::Truncated);
    check(&[0, 1, b'a', 0x81, 0], HpackError::Huffman);
    check(&[0x82, 0x20], HpackError::SizeUpdate);
    check(&[0x3f, 0xe2, 0x1f], HpackError::SizeUpdate);
    check(&[0x20, 0x21, 0x22], HpackError::SizeUpdate);
    check(
        &[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff],
        HpackError::Integer,
    );
}

#[test]
fn a_lowered_limit_must_be_announced() {
    let mut decoder = Decoder::new();
    decoder.set_limit(100);
    assert_eq!(decode(&mut decoder, &[0x82]), Err(HpackError::SizeUpdate));
    let mut decoder = Decoder::new();
    decoder.set_limit(100);
    assert!(decode(&mut decoder, &[0x20, 0x3f, 69, 0x82]).is_ok());
    assert!(decode(&mut decoder, &[0x82]).is_ok());
    // Growing obliges to nothing.
    decoder.set_limit(8192);
    assert!(decode(&mut decoder, &[0x82]).is_ok());
    assert!(decode(&mut decoder, &[0x3f, 0xe1, 0x3f, 0x82]).is_ok());
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &[0x40, 1, b'a', 1, b'b']).expect("valid");
    assert!(decode(&mut decoder, &[0xbe]).is_ok());
    let mut block = vec![0x40, 1, b'a'];
    integer::encode(&mut block, 0, 7, 5000);
    block.resize(block.len() + 5000, b'c');
    let got = decode(&mut decoder, &block).expect("valid");
    assert_eq!(got[0].1.len(), 5000);
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(HpackError::Index));
    decode(&mut decoder, &[0x40, 1, b'd', 1, b'e']).expect("valid");
    let got = decode(&mut decoder, &[0xbe]).expect("valid");
    assert_eq!(got, [("d".to_owned(), "e".to_owned())]);
}

#[test]
fn a_name_outlives_the_entry_that_it_evicts() {
    let mut decoder = Decoder::new();
    let name = vec![b'n'; 3000];
    let mut block = vec![0x40];
    integer::encode(&mut block, 0, 7, name.len());
    block.extend_from_slice(&name);
    block.extend_from_slice(&[1, b'1', 0x7e, 1, b'2']);
    let got = decode(&mut decoder, &block).expect("valid");
    assert_eq!((got[1].0.len(), got[1].1.as_str()), (3000, "2"));
    let got = decode(&mut decoder, &[0xbe]).expect("valid");
    assert_eq!((got[0].0.len(), got[0].1.as_str()), (3000, "2"));
    assert_eq!(decode(&mut decoder, &[0xbf]), Err(HpackError::Index));
}

/// Blocks by the encoder of another implementation (Python's `hpack`), each with its fields, see
/// `vectors.txt`.
#[test]
fn blocks_of_another_encoder() {
    let mut decoder = Decoder::new();
    let mut n_blocks = 0;
    for case in include_str!("vectors.txt").split_terminator("\n\n") {
        let mut lines = case.lines().filter(|line| !line.starts_with('#'));
        let Some(block) = lines.next() else { continue };
        let expect: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once('\t').expect("name and value");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let got = decode(&mut decoder, &unhex(block)).expect("a valid block");
        assert_eq!(got, expect);
        n_blocks += 1;
    }
    assert!(n_blocks >= 50, "{n_blocks}");
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, bool)> {
    let name = prop_oneof![
        prop::sample::select(vec![
            ":method",
            ":path",
            ":status",
            ":authority",
            "accept",
            "cookie",
            "content-type",
            "x-request-id",
            "accept-encoding",
            "grpc-status",
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        "[a-e]{1,3}".prop_map(String::into_bytes),
        "[a-z0-9-]{1,40}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![
        prop::sample::select(vec!["", "GET", "/", "200", "gzip, deflate", "trailers"])
            .prop_map(|value| value.as_bytes().to_vec()),
        "[a-b]{0,2}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..50),
        (any::<u8>(), 900usize..1500).prop_map(|(byte, n)| vec![byte; n]),
    ];
    (name, value, prop::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn decoding_undoes_encoding(
        blocks in prop::collection::vec(
            (prop::collection::vec(field(), 0..20), prop::option::weighted(0.2, 0usize..5000)),
            1..20
        ),
        huffman in any::<bool>(),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(huffman), Decoder::new());
        for (n, (fields, limit)) in blocks.iter().enumerate() {
            if let Some(limit) = limit {
                encoder.set_limit(*limit);
                decoder.set_limit(*limit);
            }
            // A head repeated enters the table.
            for _ in 0..3 {
                let mut block = Vec::new();
                encoder.begin(&mut block);
                for (name, value, sensitive) in fields {
                    let how = if *sensitive { Indexing::Never } else { Indexing::Adaptive };
                    encoder.field(&mut block, (NameId::of(name), name), value, how);
                }
                let mut raw = Raw::default();
                prop_assert_eq!(decoder.decode(&block, &mut raw), Ok(()));
                prop_assert_eq!(&raw.0, fields);
            }
            if n % 3 == 0 {
                encoder.shrink();
                decoder.shrink();
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..10)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decoder.decode(&block, &mut Raw::default()).is_err() {
                break;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Raw(Vec<(Vec<u8>, Vec<u8>, bool)>);

impl Sink for Raw {
    fn field(&mut self, field: Field<'_>) {
        self.0
            .push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
    }
}

#[test]
fn what_repeats_shrinks_and_what_does_not_leaves_no_trace() {
    let mut encoder = Encoder::new(false);
    let mut sizes = Vec::new();
    for n in 0..100 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        let mut field = |name: &str, value: &str| {
            let id = NameId::of(name.as_bytes());
            let name = (id, name.as_bytes());
            encoder.field(&mut block, name, value.as_bytes(), Indexing::Adaptive);
        };
        field(":path", "/productpage");
        field("x-tenant", "a-tenant-of-ours");
        field("x-request-id", &format!("{n:032x}"));
        sizes.push(block.len());
    }
    // Two indices, the index of a name, and the length and digits of the identifier.
    assert_eq!(sizes[99], 1 + 1 + 2 + 1 + 32, "{sizes:?}");
    assert!(encoder.memory() < 2500, "{}", encoder.memory());
}

#[test]
fn new_tables_own_nothing() {
    assert_eq!(Encoder::new(true).memory(), 0);
    assert_eq!(Decoder::new().memory(), 0);
}
