//! A request head as route matching reads it.

use std::borrow::Cow;

use lateen_http::{Known, RequestHead};
use lateen_route::RequestView;

/// A head with the scheme that forwarding has settled. Every route of a table asks for the path, so
/// it is taken apart once.
pub(crate) struct HeadView<'a> {
    head: &'a RequestHead,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> HeadView<'a> {
    pub(crate) fn new(head: &'a RequestHead) -> Self {
        let target = head.target();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        HeadView { head, path, query }
    }
}

impl RequestView for HeadView<'_> {
    fn authority(&self) -> &str {
        self.head.authority()
    }

    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn scheme(&self) -> &str {
        let scheme = self.head.headers.get(Known::X_FORWARDED_PROTO);
        scheme.unwrap_or("http")
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.head.headers.joined(name)
    }
}
