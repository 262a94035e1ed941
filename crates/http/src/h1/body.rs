//! Bodies as they arrive.

use bytes::{Bytes, BytesMut};

use super::chunked::{Chunked, Piece};
use super::{Framing, ParseError};
use crate::Headers;

/// Takes a body out of what arrives.
#[derive(Debug)]
pub struct BodyDecoder(State);

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Done,
}

/// What came out of the input.
#[derive(Debug)]
pub enum Decoded {
    /// Content.
    Data(Bytes),
    /// The trailer section; nothing follows.
    Trailers(Headers),
    /// Nothing follows.
    End,
    /// More input is needed.
    More,
}

impl BodyDecoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: Framing) -> Self {
        BodyDecoder(match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::default()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// True where the body has ended.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            State::Done => true,
            State::Chunked(chunked) => chunked.is_done(),
            State::Length(_) | State::UntilClose => false,
        }
    }

    /// The bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            State::Length(left) => Some(*left),
            State::Done => Some(0),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// The next piece. Data is a part of the input, not a copy.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, ParseError> {
        match &mut self.0 {
            State::Done => Ok(Decoded::End),
            State::Length(_) | State::UntilClose if input.is_empty() => Ok(Decoded::More),
            State::Length(left) => {
                let take = usize::try_from(*left).map_or(input.len(), |n| n.min(input.len()));
                *left -= take as u64;
                if *left == 0 {
                    self.0 = State::Done;
                }
                Ok(Decoded::Data(input.split_to(take).freeze()))
            }
            State::UntilClose => Ok(Decoded::Data(input.split().freeze())),
            State::Chunked(chunked) => {
                let piece = chunked.decode(input)?;
                if chunked.is_done() {
                    self.0 = State::Done;
                }
                Ok(match piece {
                    Piece::Data(data) => Decoded::Data(data),
                    Piece::Trailers(trailers) => Decoded::Trailers(trailers),
                    Piece::End => Decoded::End,
                    Piece::More => Decoded::More,
                })
            }
        }
    }

    /// Says that no more input comes.
    pub fn end_of_input(&mut self) -> Result<(), ParseError> {
        match self.0 {
            State::UntilClose | State::Done => {
                self.0 = State::Done;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(ParseError::Truncated),
        }
    }
}
