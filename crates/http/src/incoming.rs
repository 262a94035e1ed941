//! Reading an HTTP/1 body off its connection, the same for requests and responses.

use std::task::{Context, Poll};

use crate::h1::{BodyDecoder, Decoded};
use crate::transport::Transport;
use crate::{BodyError, BodyFault, Frame};

/// The next piece of a body, or `None` at its end.
pub(crate) fn poll_body(
    decoder: &mut BodyDecoder,
    transport: &mut Transport,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame, BodyError>>> {
    let failed = |fault: BodyFault, error: &dyn std::error::Error| {
        Poll::Ready(Some(Err(BodyError::new(fault, error.to_string()))))
    };
    loop {
        match decoder.decode(&mut transport.read) {
            Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
            Ok(Decoded::Trailers(trailers)) => {
                return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
            }
            Ok(Decoded::End) => return Poll::Ready(None),
            Ok(Decoded::More) => {}
            Err(error) => return failed(BodyFault::Protocol, &error),
        }
        match transport.poll_read(cx) {
            Poll::Pending => {
                transport.settle();
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => {
                return match decoder.end_of_input() {
                    Ok(()) => Poll::Ready(None),
                    Err(error) => failed(BodyFault::Closed, &error),
                };
            }
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return failed(BodyFault::Closed, &error),
        }
    }
}
