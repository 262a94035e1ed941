//! The body of a response, read from its connection when somebody asks.

use std::task::{Context, Poll, ready};

use super::{Connection, Upload, lock, release};
use crate::incoming::poll_body;
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
        let (frame, done) = {
            let state = &mut *lock(&connection.0);
            let frame = ready!(poll_body(&mut state.body, &mut state.transport, cx));
            (frame, state.body.is_done())
        };
        match &frame {
            Some(Err(_)) => self.connection = None,
            _ if done => {
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
