//! Normalisation of paths, so that what a route or policy sees is what the application sees.

use std::borrow::Cow;

/// Resolves `.` and `..` (also with parameters, as some servers do), turns backslashes as browsers do,
/// and writes characters in one way: unreserved ones without escape, those of no URI with. None where
/// the path climbs above its root, or has a NUL.
pub(crate) fn normalize(path: &str, merge_slashes: bool) -> Option<Cow<'_, str>> {
    if is_plain(path) {
        return Some(Cow::Borrowed(path));
    }
    let path = escape(path)?;
    let path = path.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (index, segment) in segments.iter().enumerate() {
        match segment.split(';').next().unwrap_or_default() {
            "." if index == last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop()?;
                if index == last {
                    kept.push("");
                }
            }
            _ if segment.is_empty() && merge_slashes && index != last => {}
            _ => kept.push(segment),
        }
    }
    Some(Cow::Owned(format!("/{}", kept.join("/"))))
}

/// Most paths have nothing to be written in another way, and one look is enough to see it.
fn is_plain(path: &str) -> bool {
    let mut slash = false;
    path.bytes().all(|byte| {
        let after_slash = std::mem::replace(&mut slash, byte == b'/');
        let climbs = after_slash && matches!(byte, b'.' | b'/');
        !climbs && byte != b'\\' && !ODD[usize::from(byte)]
    })
}

/// The escape, and characters of no URI.
static ODD: [bool; 256] = {
    let mut table = [false; 256];
    let odd = b"%\"<>^`{|}";
    let mut at = 0;
    while at < odd.len() {
        table[odd[at] as usize] = true;
        at += 1;
    }
    table
};

/// Characters written in one way (RFC 3986, 6.2.2.2): a policy that names `/admin` must also see
/// `/%61dmin`. None where there is an escaped NUL, at which some servers cut the path off.
fn escape(path: &str) -> Option<Cow<'_, str>> {
    let odd = |byte: u8| ODD[usize::from(byte)];
    if !path.bytes().any(odd) {
        return Some(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path;
    while let Some(at) = rest.bytes().position(odd) {
        out.push_str(&rest[..at]);
        let byte = rest.as_bytes()[at];
        let digits = rest.get(at + 1..at + 3);
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let escaped = digits.and_then(|text| u8::from_str_radix(text, 16).ok());
        let mut taken = 1;
        match (byte, escaped) {
            (b'%', Some(0)) => return None,
            (b'%', Some(plain)) if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => {
                out.push(char::from(plain));
                taken = 3;
            }
            (b'%', _) => out.push('%'),
            (byte, _) => out.push_str(&format!("%{byte:02X}")),
        }
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn dots_and_slashes() {
        let check = |path: &str, merge, expect: Option<&str>| {
            assert_eq!(normalize(path, merge).as_deref(), expect, "{path}");
        };
        check("/a/b", false, Some("/a/b"));
        check("/a/./b", false, Some("/a/b"));
        check("/a/../b", false, Some("/b"));
        check("/a/%2e%2E/b", false, Some("/b"));
        check("/../b", false, None);
        check("/a\\..\\b", false, Some("/b"));
        check("/a/b/..", false, Some("/a/"));
        check("/a//b", false, Some("/a//b"));
        check("/a//b/", true, Some("/a/b/"));
        check("/.well-known/x", false, Some("/.well-known/x"));
        check("/a/..;x=1/b", false, Some("/b"));
        check("/a/.;/b", false, Some("/a/b"));
        check("/a/b;..", false, Some("/a/b;.."));
    }

    #[test]
    fn characters_are_written_in_one_way() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(normalize(path, false).as_deref(), expect, "{path}");
        };
        check("/%61dm%49n", Some("/admIn"));
        check("/a%2Fb%5cc%3f", Some("/a%2Fb%5cc%3f"));
        check("/%25%32%65", Some("/%252e"));
        check("/a\"<>^`{|}", Some("/a%22%3C%3E%5E%60%7B%7C%7D"));
        check("/%", Some("/%"));
        check("/%4", Some("/%4"));
        check("/%zz%+1", Some("/%zz%+1"));
        check("/a%00", None);
    }
}
