//! Normalisation of paths, so that what a route or policy sees is what the application sees.

use std::borrow::Cow;

/// Resolves `.` and `..` (also where the dots are escaped) and turns backslashes, as browsers do.
/// None where the path climbs above its root.
pub(crate) fn normalize(path: &str, merge_slashes: bool) -> Option<Cow<'_, str>> {
    // Most paths have none of these, and one look is enough to see it.
    let bytes = path.as_bytes();
    let suspicious = bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'\\' => true,
        b'/' => match bytes.get(at + 1) {
            Some(b'.') => true,
            Some(b'/') => merge_slashes,
            _ => false,
        },
        b'%' => bytes.get(at + 1) == Some(&b'2') && matches!(bytes.get(at + 2), Some(b'e' | b'E')),
        _ => false,
    });
    if !suspicious {
        return Some(Cow::Borrowed(path));
    }
    let path = path.replace('\\', "/");
    let mut kept: Vec<String> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (index, raw) in segments.iter().enumerate() {
        let segment = raw.replace("%2e", ".").replace("%2E", ".");
        match segment.as_str() {
            "." if index == last => kept.push(String::new()),
            "." => {}
            ".." => {
                kept.pop()?;
                if index == last {
                    kept.push(String::new());
                }
            }
            "" if merge_slashes && index != last => {}
            _ => kept.push(segment),
        }
    }
    Some(Cow::Owned(format!("/{}", kept.join("/"))))
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
    }
}
