//! Answers of the proxy's own, as `local_reply_config` has them.

use std::borrow::Cow;

use bytes::Bytes;
use lateen_decode::{LocalReplySpec, LogFilter, ReplyFormat, ReplyMapper};
use lateen_http::{Headers, RequestHead};
use lateen_telemetry::access_log::{LogSource, Shape};

use super::headers;
use super::log::Entry;
use super::view::HeadView;
use crate::cluster::millis;

/// What an answer says so far.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    pub status: u16,
    pub body: Bytes,
    /// Of the body.
    pub content_type: &'a str,
}

/// Changes an answer: by the first mapper that it passes, then by the format of all.
pub(crate) fn rewrite<'a>(
    spec: &'a LocalReplySpec,
    entry: &mut Entry,
    headers: &mut Headers,
    said: &mut Said<'a>,
) {
    entry.status = said.status;
    let found = spec.mappers.iter().find(|one| passes(&one.filter, entry));
    if let Some(mapper) = found {
        map(mapper, entry, headers, said);
    }
    let own = found.and_then(|mapper| mapper.format.as_ref());
    if let Some(format) = own.or(spec.format.as_ref()) {
        fill(format, entry, headers, said);
    }
}

fn map(mapper: &ReplyMapper, entry: &mut Entry, headers: &mut Headers, said: &mut Said<'_>) {
    if let Some(body) = &mapper.body {
        said.body.clone_from(body);
    }
    headers::response(headers, &[&mapper.headers], entry);
    if let Some(status) = mapper.status {
        said.status = status;
        entry.status = status;
    }
}

fn fill<'a>(format: &'a ReplyFormat, entry: &Entry, headers: &Headers, said: &mut Said<'a>) {
    let source = Replying {
        entry,
        headers,
        // A format makes text.
        body: String::from_utf8_lossy(&said.body),
    };
    let text = match &format.shape {
        Shape::Text(text) => {
            let missing = if format.omits { "" } else { "-" };
            let mut out = String::new();
            text.write(&source, missing, &mut out);
            out
        }
        json @ Shape::Json(_) => json.line(&source),
    };
    said.body = text.into();
    said.content_type = &format.content_type;
}

fn passes(filter: &LogFilter, entry: &Entry) -> bool {
    match filter {
        LogFilter::Status(how, with) => how.holds(u64::from(entry.status), *with),
        LogFilter::Duration(how, with) => how.holds(millis(entry.started.elapsed()), *with),
        LogFilter::Share(share) => fastrand::u32(..1_000_000) < share.millionths,
        LogFilter::All(all) => all.iter().all(|one| passes(one, entry)),
        LogFilter::Any(any) => any.iter().any(|one| passes(one, entry)),
        LogFilter::Header(test) => {
            let head = entry.head.as_deref();
            head.is_some_and(|head: &RequestHead| test.matches(&HeadView::new(head)))
        }
        LogFilter::Flags(flags) => entry
            .reasons
            .iter()
            .any(|reason| flags.is_empty() || flags.iter().any(|flag| flag == reason.flag())),
    }
}

/// Where the values of an answer come from.
struct Replying<'a> {
    entry: &'a Entry,
    headers: &'a Headers,
    body: Cow<'a, str>,
}

impl LogSource for Replying<'_> {
    fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.entry.request_header(name)
    }

    fn response_header(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            ":status" => self.entry.response_header(name),
            name => self.headers.joined(name).map(super::log::text),
        }
    }

    fn value(&self, command: &str, argument: &str) -> Option<Cow<'_, str>> {
        match command {
            "LOCAL_REPLY_BODY" => Some(self.body.as_ref().into()),
            _ => self.entry.value(command, argument),
        }
    }
}
