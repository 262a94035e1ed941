//! Field names that the data path knows, interned as one byte, so that finding `content-length` in
//! a head is a comparison of bytes and not of texts.

/// A well-known field name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known(u8);

impl Known {
    /// A name that is not in the list.
    pub(crate) const NONE: Known = Known(0);

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// The name with these letters, in whatever case.
    #[inline]
    pub fn of(name: &[u8]) -> Option<Known> {
        let found = lookup(name);
        (found != Known::NONE).then_some(found)
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The number under which a name is interned; zero for [`Known::NONE`].
    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// The name that has this number.
    pub(crate) const fn from_number(number: u8) -> Known {
        assert!((number as usize) < NAMES.len(), "a number of ours");
        Known(number)
    }

    /// The name in this very case, found while compiling.
    pub(crate) const fn find_static(name: &[u8]) -> Known {
        let mut number = 1;
        while number < NAMES.len() {
            if same(NAMES[number].as_bytes(), name) {
                return Known(number as u8);
            }
            number += 1;
        }
        Known::NONE
    }
}

macro_rules! known {
    ($($name:ident = $text:literal,)*) => {
        /// In the order of their numbers; the first stands for unknown names.
        const NAMES: &[&str] = &["", $($text,)*];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u8)]
        enum Number { _NONE, $($name,)* }

        impl Known {
            $(
                #[doc = concat!("`", $text, "`")]
                pub const $name: Known = Known(Number::$name as u8);
            )*
        }
    };
}

known! {
    ACCEPT = "accept",
    ACCEPT_CHARSET = "accept-charset",
    ACCEPT_ENCODING = "accept-encoding",
    ACCEPT_LANGUAGE = "accept-language",
    ACCEPT_RANGES = "accept-ranges",
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin",
    ACCESS_CONTROL_REQUEST_METHOD = "access-control-request-method",
    AGE = "age",
    ALLOW = "allow",
    AUTHORIZATION = "authorization",
    B3 = "b3",
    CACHE_CONTROL = "cache-control",
    CONNECTION = "connection",
    CONTENT_DISPOSITION = "content-disposition",
    CONTENT_ENCODING = "content-encoding",
    CONTENT_LANGUAGE = "content-language",
    CONTENT_LENGTH = "content-length",
    CONTENT_LOCATION = "content-location",
    CONTENT_RANGE = "content-range",
    CONTENT_TYPE = "content-type",
    COOKIE = "cookie",
    DATE = "date",
    END_USER = "end-user",
    ETAG = "etag",
    EXPECT = "expect",
    EXPIRES = "expires",
    FROM = "from",
    GRPC_MESSAGE = "grpc-message",
    GRPC_STATUS = "grpc-status",
    GRPC_TIMEOUT = "grpc-timeout",
    HOST = "host",
    HTTP2_SETTINGS = "http2-settings",
    IF_MATCH = "if-match",
    IF_MODIFIED_SINCE = "if-modified-since",
    IF_NONE_MATCH = "if-none-match",
    IF_RANGE = "if-range",
    IF_UNMODIFIED_SINCE = "if-unmodified-since",
    KEEP_ALIVE = "keep-alive",
    LAST_MODIFIED = "last-modified",
    LINK = "link",
    LOCATION = "location",
    MAX_FORWARDS = "max-forwards",
    ORIGIN = "origin",
    PROXY_AUTHENTICATE = "proxy-authenticate",
    PROXY_AUTHORIZATION = "proxy-authorization",
    PROXY_CONNECTION = "proxy-connection",
    RANGE = "range",
    REFERER = "referer",
    REFRESH = "refresh",
    RETRY_AFTER = "retry-after",
    SEC_WEBSOCKET_ACCEPT = "sec-websocket-accept",
    SEC_WEBSOCKET_KEY = "sec-websocket-key",
    SERVER = "server",
    SET_COOKIE = "set-cookie",
    STRICT_TRANSPORT_SECURITY = "strict-transport-security",
    TE = "te",
    TRACEPARENT = "traceparent",
    TRACESTATE = "tracestate",
    TRAILER = "trailer",
    TRANSFER_ENCODING = "transfer-encoding",
    UPGRADE = "upgrade",
    USER_AGENT = "user-agent",
    VARY = "vary",
    VIA = "via",
    WWW_AUTHENTICATE = "www-authenticate",
    X_B3_PARENTSPANID = "x-b3-parentspanid",
    X_B3_SAMPLED = "x-b3-sampled",
    X_B3_SPANID = "x-b3-spanid",
    X_B3_TRACEID = "x-b3-traceid",
    X_ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count",
    X_ENVOY_DECORATOR_OPERATION = "x-envoy-decorator-operation",
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS = "x-envoy-expected-rq-timeout-ms",
    X_ENVOY_INTERNAL = "x-envoy-internal",
    X_ENVOY_MAX_RETRIES = "x-envoy-max-retries",
    X_ENVOY_ORIGINAL_DST_HOST = "x-envoy-original-dst-host",
    X_ENVOY_ORIGINAL_PATH = "x-envoy-original-path",
    X_ENVOY_PEER_METADATA = "x-envoy-peer-metadata",
    X_ENVOY_PEER_METADATA_ID = "x-envoy-peer-metadata-id",
    X_ENVOY_RETRY_ON = "x-envoy-retry-on",
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS = "x-envoy-upstream-rq-timeout-ms",
    X_ENVOY_UPSTREAM_SERVICE_TIME = "x-envoy-upstream-service-time",
    X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert",
    X_FORWARDED_FOR = "x-forwarded-for",
    X_FORWARDED_HOST = "x-forwarded-host",
    X_FORWARDED_PROTO = "x-forwarded-proto",
    X_REQUEST_ID = "x-request-id",
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Places in the hash table; at most half of them are taken.
const SLOTS: usize = 256;

/// An open hash table of the numbers, built when the program is compiled.
static TABLE: [u8; SLOTS] = build();

/// The list of fields keeps a bit for each number.
const _: () = assert!(NAMES.len() <= 128, "more names than bits");

const fn build() -> [u8; SLOTS] {
    let mut table = [0; SLOTS];
    let mut number = 1;
    while number < NAMES.len() {
        let mut slot = hash(NAMES[number].as_bytes());
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = number as u8;
        number += 1;
    }
    table
}

/// A hash of the length and four letters, without regard to case. For an empty name 0.
const fn hash(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let first = (name[0] | 0x20) as usize;
    let last = (name[length - 1] | 0x20) as usize;
    let middle = (name[length / 2] | 0x20) as usize;
    let third = (name[length * 3 / 4] | 0x20) as usize;
    (length * 7 + first * 31 + middle * 17 + third * 5 + last * 67) % SLOTS
}

/// True where a name has these letters, in whatever case. Eight bytes at a time: names are compared
/// for each field of each head, and byte by byte that is the largest part of taking it in.
#[inline]
fn is_spelt(known: &[u8], name: &[u8]) -> bool {
    if known.len() != name.len() {
        return false;
    }
    let same = |known: &[u8; 8], word: &[u8; 8]| {
        let (known, word) = (u64::from_ne_bytes(*known), u64::from_ne_bytes(*word));
        // Of what known names consist of, letters alone have the bit 0x40, and two cases, which
        // differ in the bit 0x20.
        let letters = (known >> 1) & 0x2020_2020_2020_2020;
        (known ^ word) & !letters == 0
    };
    // The last eight overlap the ones before where the length is no multiple.
    let (Some(known_end), Some(end)) = (known.last_chunk(), name.last_chunk()) else {
        return known.eq_ignore_ascii_case(name);
    };
    let mut words = known.as_chunks().0.iter().zip(name.as_chunks().0);
    same(known_end, end) && words.all(|(known, word)| same(known, word))
}

#[inline]
pub(crate) fn lookup(name: &[u8]) -> Known {
    let mut slot = hash(name);
    loop {
        let number = TABLE[slot];
        if number == 0 {
            return Known::NONE;
        }
        if is_spelt(NAMES[number as usize].as_bytes(), name) {
            return Known(number);
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_number_in_any_case() {
        for (number, name) in NAMES.iter().enumerate().skip(1) {
            let found = Known::of(name.as_bytes()).expect("in the list");
            assert_eq!(usize::from(found.0), number, "{name}");
            assert_eq!(found.as_str(), *name);
            assert_eq!(
                Known::of(name.to_ascii_uppercase().as_bytes()),
                Some(found),
                "{name}"
            );
            assert_eq!(*name, name.to_ascii_lowercase());
        }
    }

    #[test]
    fn other_names_are_unknown() {
        for name in [
            "",
            "x",
            "content-lengt",
            "content_length",
            "x-request-idx",
            "content\rlength",
            "x\rrequest\rid",
        ] {
            assert_eq!(Known::of(name.as_bytes()), None, "{name}");
        }
    }
}
