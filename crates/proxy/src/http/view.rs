//! A request head as route matching reads it.

use std::borrow::Cow;

use lateen_http::{Known, RequestHead};
use lateen_route::RequestView;

/// A head with the scheme that forwarding has settled.
pub(crate) struct HeadView<'a>(pub &'a RequestHead);

impl RequestView for HeadView<'_> {
    fn authority(&self) -> &str {
        self.0.authority()
    }

    fn method(&self) -> &str {
        self.0.method.as_str()
    }

    fn scheme(&self) -> &str {
        self.0
            .headers
            .get(Known::X_FORWARDED_PROTO)
            .unwrap_or("http")
    }

    fn path(&self) -> &str {
        self.0.path()
    }

    fn query(&self) -> Option<&str> {
        self.0.query()
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.headers.joined(name)
    }
}
