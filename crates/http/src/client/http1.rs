//! HTTP/1 client connections.
//!
//! An exchange is driven by whoever waits for it, in his own task; an idle connection has none.
//! Whether the server has closed it meanwhile is asked when it is wanted again.

mod body;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use super::{ClientConfig, Outgoing};
use crate::h1::{self, BodyDecoder, Decoded, Framing, HeadParser, Limits, ParsedResponse};
use crate::pool::Home;
use crate::transport::Transport;
use crate::turn::{self, Late};
use crate::upgrade::Upgraded;
use crate::websocket;
use crate::writer::MessageWriter;
use crate::{
    Body, Error, Interim, Known, Method, RequestHead, Response, SendError, Upgrade, Value,
};
use body::ResponseBody;

/// A connection between exchanges.
pub(crate) struct Connection(Arc<Mutex<State>>);

struct State {
    local: Option<SocketAddr>,
    transport: Transport,
    limits: Limits,
    parser: HeadParser,
    /// The body of the response under way.
    body: BodyDecoder,
    /// The server has said something of the exchange under way.
    heard: bool,
    /// The server takes another request after this exchange.
    keep_alive: bool,
    /// Requests that it may still carry.
    requests_left: u32,
    upload: Upload,
}

/// How far the request is.
enum Upload {
    /// Out.
    Done,
    /// The exchange, or a task that took this over, still sends it; the waker is the task's.
    Going(Option<Waker>),
    /// It could not be sent to its end, or nobody wants its response any more.
    Broken,
}

impl Late for Mutex<State> {
    fn flush_late(&self) {
        lock(self).transport.flush_late();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) fn new(transport: Transport, config: &ClientConfig) -> Self {
        Connection(Arc::new(Mutex::new(State {
            local: config.local,
            transport,
            limits: Limits {
                max_bytes: config.max_head_bytes,
                max_fields: config.max_head_fields,
            },
            parser: HeadParser::default(),
            body: BodyDecoder::new(Framing::None),
            heard: false,
            keep_alive: true,
            requests_left: match config.max_requests {
                0 => u32::MAX,
                most => most,
            },
            upload: Upload::Done,
        })))
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        lock(&self.0).local
    }

    /// True where the server has neither closed the connection nor said what nobody asked for. Costs
    /// a system call only where something has arrived.
    pub(super) fn is_idle(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        lock(&self.0).is_idle(&mut cx)
    }
}

/// A request on its way.
struct Sending {
    framing: Framing,
    writer: MessageWriter,
    body: Body,
    head_out: bool,
    /// The task is woken already when the server says something.
    listening: bool,
    /// The server takes no more of it.
    broken: Option<Error>,
}

/// Sends a request and waits for the head of its response.
pub(super) async fn exchange(
    connection: Connection,
    outgoing: Outgoing<'_>,
    reused: bool,
    home: Option<Home>,
) -> Result<Response, SendError> {
    let Outgoing {
        head,
        body,
        interim,
    } = outgoing;
    let upgrading = head.upgrade_type().is_some();
    let translated = head.protocol().map(|protocol| upgrade_of(head, protocol));
    let head = translated.as_ref().unwrap_or(head);
    if !poll_fn(|cx| Poll::Ready(lock(&connection.0).begin(cx, reused))).await {
        let text = "the server has closed the connection meanwhile".to_owned();
        return Err(SendError {
            unsent: Some(body),
            error: Error::Closed(text),
            reused,
        });
    }
    let framing = request_framing(head, &body, upgrading);
    // A request whose body is at hand can be given back where the connection proves dead.
    let spare = body.duplicate();
    let mut sending = Sending {
        writer: MessageWriter::new(framing),
        framing,
        body: if upgrading { Body::empty() } else { body },
        head_out: false,
        listening: reused,
        broken: None,
    };
    let result = poll_fn(|cx| poll_head(&connection.0, cx, head, &mut sending, interim)).await;
    match result {
        Ok(parsed) if upgrading && is_switch(head, &parsed) => Ok(switch(connection, parsed.head)),
        Ok(parsed) => Ok(answer(connection, parsed, sending, home)),
        Err(error) => {
            // It may be sent again elsewhere, and must not leave from here as well.
            let transport = &mut lock(&connection.0).transport;
            transport.discard_late();
            let unsent = !transport.begun() && matches!(error, Error::Closed(_));
            Err(SendError {
                unsent: spare.filter(|_| unsent),
                error,
                reused,
            })
        }
    }
}

/// An extended CONNECT of HTTP/2 as the upgrade that it stands for (RFC 8441, 5).
fn upgrade_of(head: &RequestHead, protocol: &str) -> RequestHead {
    let mut head = head.clone();
    head.method = Method::GET;
    // To have no protocol is no error.
    let _ = head.set_protocol(None);
    let fields = &mut head.headers;
    fields.set_value(Known::CONNECTION, &Value::from_static("upgrade"));
    // It was a token.
    let _ = fields.set(Known::UPGRADE, protocol);
    // HTTP/2 has no key, HTTP/1 servers insist on one (RFC 6455, 4.2.1). Its answer is known to us
    // alone and nobody checks it: the key protects against caches, of which there is none here.
    if protocol.eq_ignore_ascii_case("websocket") && !fields.contains(Known::SEC_WEBSOCKET_KEY) {
        fields.set_value(Known::SEC_WEBSOCKET_KEY, &websocket::key());
    }
    head
}

/// True where both sides leave HTTP.
fn is_switch(head: &RequestHead, parsed: &ParsedResponse) -> bool {
    match head.method {
        Method::CONNECT => (200..300).contains(&parsed.head.status),
        _ => parsed.head.status == 101,
    }
}

fn request_framing(head: &RequestHead, body: &Body, upgrading: bool) -> Framing {
    if upgrading {
        return Framing::None;
    }
    match body.framed_length(&head.headers) {
        Some(0) if body.is_whole() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

impl Sending {
    /// Sends what there is to send now. Ready once everything is out. The head is needed until it
    /// is out.
    fn poll(
        &mut self,
        state: &Arc<Mutex<State>>,
        cx: &mut Context<'_>,
        head: Option<&RequestHead>,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.head_out {
                ready!(self.poll_flush(state, cx))?;
            }
            if self.writer.is_ended() {
                lock(state).upload = Upload::Done;
                return Poll::Ready(Ok(()));
            }
            let frame = match self.framing {
                Framing::None => Poll::Ready(None),
                _ => self.body.poll_next(cx),
            };
            let last = self.body.is_end();
            let head = head.filter(|_| !self.head_out);
            let framing = self.framing;
            let write = |out: &mut Vec<u8>| {
                if let Some(head) = head {
                    h1::encode_request(head, framing, out);
                }
            };
            let guard = &mut *lock(state);
            let transport = &mut guard.transport;
            let sent = match frame {
                Poll::Pending if self.head_out => return Poll::Pending,
                Poll::Pending => self.writer.send_head(transport, cx, write),
                Poll::Ready(frame) => {
                    let frame = frame.transpose();
                    let frame = frame.map_err(|error| Error::Body(error.text))?;
                    self.writer.send(transport, cx, write, frame, last)
                }
            };
            self.head_out = true;
            sent?;
            if transport.is_late() {
                turn::wait(state.clone());
            }
            if self.writer.is_ended() && transport.is_flushed() {
                guard.upload = Upload::Done;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_flush(
        &mut self,
        state: &Mutex<State>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let transport = &mut lock(state).transport;
        if !transport.is_flushed() {
            ready!(transport.poll_flush(cx)).map_err(|error| Error::io(&error))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Sends on while it waits for the head of the response.
fn poll_head(
    state: &Arc<Mutex<State>>,
    cx: &mut Context<'_>,
    head: &RequestHead,
    sending: &mut Sending,
    interim: Option<&Interim>,
) -> Poll<Result<ParsedResponse, Error>> {
    let mut guard = lock(state);
    let unsent = !sending.writer.is_ended() || !guard.transport.is_flushed();
    if unsent && sending.broken.is_none() {
        drop(guard);
        match sending.poll(state, cx, Some(head)) {
            Poll::Ready(Err(error @ Error::Closed(_))) => {
                lock(state).upload = Upload::Broken;
                sending.broken = Some(error);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if std::mem::take(&mut sending.listening) {
            return Poll::Pending;
        }
        guard = lock(state);
    }
    let parsed = ready!(guard.poll_head(cx, &head.method, interim));
    // A server that refuses a body closes. Its answer may be there all the same, or be noticed a
    // moment later than that writing fails; where there is none, the first failure counts.
    Poll::Ready(match (parsed, sending.broken.take()) {
        (Err(_), Some(broken)) => Err(broken),
        (parsed, _) => parsed,
    })
}

impl State {
    /// Begins an exchange; false where the connection has ended while it was idle.
    fn begin(&mut self, cx: &mut Context<'_>, reused: bool) -> bool {
        self.upload = Upload::Going(None);
        self.heard = false;
        self.requests_left = self.requests_left.saturating_sub(1);
        self.transport.begin();
        !reused || self.is_idle(cx)
    }

    /// True where the server is silent; the task is woken when it speaks.
    fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.keep_alive
            && self.transport.is_flushed()
            && self.transport.read.is_empty()
            && self.transport.poll_read(cx).is_pending()
    }

    /// Ends an exchange; true where the server would take another request.
    fn settle(&mut self) -> bool {
        self.transport.settle();
        self.keep_alive
            && self.requests_left > 0
            && matches!(self.upload, Upload::Done)
            && self.transport.read.is_empty()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        interim: Option<&Interim>,
    ) -> Poll<Result<ParsedResponse, Error>> {
        loop {
            let read = &mut self.transport.read;
            match self.parser.response(read, &self.limits, method) {
                Ok(Some(_)) if self.transport.is_late() && !self.transport.begun() => {
                    // It is no answer to a request of which nothing has left.
                    let text = "the server spoke before it was asked".to_owned();
                    return Poll::Ready(Err(Error::Closed(text)));
                }
                Ok(Some(parsed)) if parsed.head.is_informational() => {
                    self.heard = true;
                    if let Some(interim) = interim.filter(|_| parsed.head.status != 100) {
                        interim.send(&parsed.head);
                    }
                    continue;
                }
                Ok(Some(parsed)) => return Poll::Ready(Ok(parsed)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(Error::parse(error))),
            }
            match ready!(self.transport.poll_read(cx)) {
                // Whoever has sent 103 works on the request, which must not be sent again then.
                Ok(0) if self.transport.read.is_empty() && !self.heard => {
                    return Poll::Ready(Err(Error::Closed("no response came".to_owned())));
                }
                Ok(0) => {
                    let text = "before the head of the response was complete".to_owned();
                    return Poll::Ready(Err(Error::Protocol(text)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Error::io(&error))),
            }
        }
    }
}

/// Makes the response of what has arrived, and decides who has the connection from here on.
fn answer(
    connection: Connection,
    parsed: ParsedResponse,
    sending: Sending,
    home: Option<Home>,
) -> Response {
    let ParsedResponse {
        head,
        framing,
        keep_alive,
    } = parsed;
    let mut state = lock(&connection.0);
    state.keep_alive = keep_alive;
    state.body = BodyDecoder::new(framing);
    if let Upload::Going(_) = state.upload {
        drop(state);
        let task = upload(connection.0.clone(), sending);
        tokio::spawn(task);
        state = lock(&connection.0);
    }
    let body = match whole_body(&mut state) {
        Some(body) => {
            let clean = state.settle();
            drop(state);
            if clean {
                give_back(connection, home);
            }
            body
        }
        None => {
            drop(state);
            Body::from_source(ResponseBody::new(connection, home))
        }
    };
    Response {
        head,
        body,
        upgrade: None,
    }
}

/// The whole body, where it has come with its head.
fn whole_body(state: &mut State) -> Option<Body> {
    if state.body.is_done() {
        return Some(Body::empty());
    }
    let here = state.transport.read.len() as u64;
    if state.body.remaining().is_none_or(|length| length > here) {
        return None;
    }
    match state.body.decode(&mut state.transport.read) {
        Ok(Decoded::Data(data)) => Some(Body::from(data)),
        _ => None,
    }
}

/// The stream leaves HTTP.
fn switch(connection: Connection, head: crate::ResponseHead) -> Response {
    let mut state = lock(&connection.0);
    let empty = Transport::new(Box::new(tokio::io::empty()), Default::default());
    let (io, read) = std::mem::replace(&mut state.transport, empty).into_parts();
    Response {
        head,
        body: Body::empty(),
        upgrade: Some(Upgrade::ready(Upgraded::new(io, read))),
    }
}

/// Gives a connection back after its exchange, or closes it.
fn release(connection: Connection, home: Option<Home>) {
    let clean = lock(&connection.0).settle();
    if clean {
        give_back(connection, home);
    }
}

fn give_back(connection: Connection, home: Option<Home>) {
    if let Some(home) = home {
        home.take_back(super::Connection::from_http1(connection));
    }
}

/// Sends the rest of a request whose response has begun. It ends early where nobody reads the
/// response any more.
async fn upload(state: Arc<Mutex<State>>, mut sending: Sending) {
    let result = poll_fn(|cx| {
        match &mut lock(&state).upload {
            Upload::Going(waker) => *waker = Some(cx.waker().clone()),
            Upload::Done | Upload::Broken => {
                return Poll::Ready(Err(Error::Closed("the exchange is over".to_owned())));
            }
        }
        sending.poll(&state, cx, None)
    })
    .await;
    lock(&state).upload = match result {
        Ok(()) => Upload::Done,
        Err(_) => Upload::Broken,
    };
}
