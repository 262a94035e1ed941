//! Counting an exchange to its end: bytes, status, duration; then the metrics and the log line,
//! also where the client goes away in the middle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use lateen_core::Reason;
use lateen_http::{Body, BodyError, BodyFault, Frame, Headers, Known, ResponseHead, Source};
use tokio::time::{Instant, Sleep};

use super::Hcm;
use super::log::{Entry, write_logs};
use super::reply::reset_text;
use crate::listener::Connection;
use crate::stats::HttpFacts;
use crate::worker::Worker;

/// An exchange under way. Dropping it ends it.
pub(crate) struct Meter {
    pub entry: Entry,
    pub facts: HttpFacts,
    /// Bytes of a request's body that comes in pieces.
    received: Option<Arc<AtomicU64>>,
    worker: Arc<Worker>,
    hcm: Arc<Hcm>,
    complete: bool,
}

impl Meter {
    pub(crate) fn new(
        worker: Arc<Worker>,
        hcm: Arc<Hcm>,
        connection: &Arc<Connection>,
        version: lateen_http::Version,
    ) -> Self {
        worker.shared.stats.downstream_active.add(1);
        Meter {
            entry: Entry::http(connection, version),
            facts: HttpFacts::default(),
            received: None,
            worker,
            hcm,
            complete: false,
        }
    }

    /// True where somebody will read the log line.
    pub(crate) fn is_logged(&self) -> bool {
        !self.hcm.access_logs.is_empty() || !self.entry.connection.listener.access_logs.is_empty()
    }

    /// Counts a request's body.
    pub(crate) fn count_request(&mut self, body: Body) -> Body {
        if let Some(length) = body.whole_length() {
            self.entry.bytes_received = length;
            return body;
        }
        let bytes = self.received.get_or_insert_default().clone();
        Body::from_source(Counted { body, bytes })
    }

    /// Counts a response's body and ends with it. `deadline` bounds the whole exchange, `idle` the
    /// time between two pieces.
    pub(crate) fn count_response(
        mut self,
        body: Body,
        deadline: Option<Instant>,
        idle: Duration,
        grpc: bool,
    ) -> Body {
        if let Some(length) = body.whole_length() {
            self.entry.bytes_sent = length;
            if let Some(trailers) = body.whole_trailers().filter(|_| grpc) {
                self.entry.grpc_status = grpc_status(trailers);
            }
            self.complete = true;
            return body;
        }
        Body::from_source(Metered {
            meter: Some(self),
            body,
            deadline,
            idle,
            timer: None,
            grpc,
        })
    }

    /// The exchange goes on outside of HTTP.
    pub(crate) fn finish(mut self) {
        self.complete = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let shared = &self.worker.shared;
        shared.stats.downstream_active.add(-1);
        if !self.complete && self.entry.reasons.is_empty() {
            self.entry
                .reasons
                .push(Reason::DownstreamConnectionTermination);
            self.entry.details = "downstream_remote_disconnect";
        }
        if let Some(received) = &self.received {
            self.entry.bytes_received = received.load(Ordering::Relaxed);
        }
        shared
            .stats
            .http(shared, &self.entry.connection, &self.entry, &self.facts);
        write_logs(
            &[
                &self.hcm.access_logs,
                &self.entry.connection.listener.access_logs,
            ],
            &self.entry,
        );
    }
}

struct Counted {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl Source for Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = std::task::ready!(self.body.poll_next(cx));
        if let Some(Ok(Frame::Data(data))) = &frame {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

struct Metered {
    meter: Option<Meter>,
    body: Body,
    deadline: Option<Instant>,
    idle: Duration,
    /// Made when there is something to wait for.
    timer: Option<Box<Timers>>,
    grpc: bool,
}

struct Timers {
    deadline: Option<Pin<Box<Sleep>>>,
    idle: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    fn end(&mut self) {
        if let Some(mut meter) = self.meter.take() {
            meter.complete = true;
        }
    }

    /// The body has failed. What the client has got then is known once the body is dropped.
    fn fail(&mut self, reason: Reason) {
        if let Some(meter) = self.meter.as_mut().filter(|meter| !meter.complete) {
            meter.complete = true;
            meter.entry.reasons.push(reason);
            if let Some(text) = reset_text(reason) {
                meter.entry.details = text.after;
            }
        }
    }

    fn timed_out(&mut self, cx: &mut Context<'_>) -> Option<Reason> {
        let (deadline, idle) = (self.deadline, self.idle);
        let timers = self.timer.get_or_insert_with(|| {
            Box::new(Timers {
                deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
                idle: (!idle.is_zero()).then(|| Box::pin(tokio::time::sleep(idle))),
            })
        });
        let fired = |timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>| {
            timer
                .as_mut()
                .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
        };
        if fired(&mut timers.deadline, cx) {
            return Some(Reason::UpstreamRequestTimeout);
        }
        fired(&mut timers.idle, cx).then_some(Reason::StreamIdleTimeout)
    }

    fn note_progress(&mut self) {
        let idle = self.idle;
        if let Some(timer) = self.timer.as_mut().and_then(|timers| timers.idle.as_mut()) {
            timer.as_mut().reset(Instant::now() + idle);
        }
    }
}

fn reason_of(fault: BodyFault) -> Reason {
    match fault {
        BodyFault::Closed => Reason::UpstreamConnectionTermination,
        BodyFault::Local => Reason::LocalReset,
        BodyFault::Reset => Reason::UpstreamRemoteReset,
        BodyFault::Protocol => Reason::UpstreamProtocolError,
    }
}

fn grpc_status(trailers: &Headers) -> Option<u32> {
    trailers.get(Known::GRPC_STATUS)?.parse().ok()
}

impl Source for Metered {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Poll::Ready(frame) = self.body.poll_next(cx) else {
            if let Some(reason) = self.timed_out(cx) {
                self.fail(reason);
                self.body = Body::empty();
                return Poll::Ready(Some(Err(BodyError::new(BodyFault::Local, "timeout"))));
            }
            return Poll::Pending;
        };
        self.note_progress();
        match &frame {
            None => self.end(),
            Some(Err(error)) => self.fail(reason_of(error.fault)),
            Some(Ok(Frame::Trailers(trailers))) => {
                if let Some(meter) = self.meter.as_mut().filter(|_| self.grpc) {
                    meter.entry.grpc_status = grpc_status(trailers);
                }
                self.end();
            }
            Some(Ok(Frame::Data(data))) => {
                if let Some(meter) = &mut self.meter {
                    meter.entry.bytes_sent += data.len() as u64;
                }
                if self.body.is_end() {
                    self.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }

    fn replaced(&mut self, by: &ResponseHead, length: u64) {
        // A body that was longer than its head said has not failed by itself.
        self.fail(Reason::UpstreamProtocolError);
        let Some(mut meter) = self.meter.take() else {
            return;
        };
        let entry = &mut meter.entry;
        entry.status = by.status;
        entry.bytes_sent = length;
        if let Some(text) = entry.reasons.last().and_then(|last| reset_text(*last)) {
            entry.details = text.before;
        }
        if let Some(headers) = &mut entry.response_headers {
            headers.clone_from(&by.headers);
        }
    }
}
