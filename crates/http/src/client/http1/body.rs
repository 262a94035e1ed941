//! The body of a response, read from its connection when somebody asks.

use std::task::{Context, Poll, ready};

use super::{Connection, Upload, lock, release};
use crate::h1::Decoded;
use crate::pool::Home;
use crate::{BodyError, Frame, Source};

pub(super) struct ResponseBody {
    /// None once the body has ended.
    connection: Option<Connection>,
    home: Option<Home>,
}

impl ResponseBody {
    pub(super) fn new(connection: Connection, home: Option<Home>) -> Self {
        ResponseBody {
            connection: Some(connection),
            home,
        }
    }
}

impl Source for ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(connection) = &self.connection else {
            return Poll::Ready(None);
        };
        let frame = ready!(poll_body(connection, cx));
        match &frame {
            Some(Err(_)) => self.connection = None,
            _ if lock(&connection.0).body.is_done() => {
                let connection = self.connection.take();
                release(connection.expect("just used"), self.home.take());
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        match &self.connection {
            Some(connection) => lock(&connection.0).body.remaining(),
            None => Some(0),
        }
    }

    fn is_end(&self) -> bool {
        self.connection.is_none()
    }
}

fn poll_body(
    connection: &Connection,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame, BodyError>>> {
    let failed = |text: String| Poll::Ready(Some(Err(BodyError(text))));
    let state = &mut *lock(&connection.0);
    loop {
        match state.body.decode(&mut state.transport.read) {
            Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
            Ok(Decoded::Trailers(trailers)) => {
                return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
            }
            Ok(Decoded::End) => return Poll::Ready(None),
            Ok(Decoded::More) => {}
            Err(error) => return failed(error.to_string()),
        }
        match state.transport.poll_read(cx) {
            Poll::Pending => {
                state.transport.settle();
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => {
                return match state.body.end_of_input() {
                    Ok(()) => Poll::Ready(None),
                    Err(error) => failed(error.to_string()),
                };
            }
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return failed(error.to_string()),
        }
    }
}

/// A body that nobody reads to its end takes its connection with it, and stops the upload.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            let upload = std::mem::replace(&mut lock(&connection.0).upload, Upload::Broken);
            if let Upload::Going(Some(waker)) = upload {
                waker.wake();
            }
        }
    }
}
