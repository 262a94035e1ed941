//! The backend behind a proxy: it writes down what it gets, and answers as the case wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::strict::{self, Message};

/// The field by which an answer says which request it is for.
pub(super) const MARK: &str = "x-seen";

/// What is answered to a case's request.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) pieces: Vec<Piece>,
    /// Do not wait for the request's body.
    pub(super) early: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// Bytes apart from those before, as a slow or late sender has them.
    Pause(Duration),
    Close,
}

/// A request that has come.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) number: u64,
    pub(super) request: Message,
    /// It got the script, which has no mark.
    pub(super) scripted: bool,
}

/// What has come since the last time.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) seen: Vec<Seen>,
    /// What could be read in several ways.
    pub(super) faults: Vec<String>,
    /// Bytes of a request that did not come to its end.
    pub(super) unfinished: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    case: u64,
    /// Scripts under way.
    playing: usize,
    number: u64,
    script: Option<Script>,
    record: Record,
    /// By connection: the case they belong to, and the bytes.
    pending: std::collections::BTreeMap<u64, (u64, Vec<u8>)>,
}

/// The running backend; its threads end with the process.
#[derive(Debug)]
pub(super) struct Recorder(Arc<Mutex<State>>);

impl Recorder {
    pub(super) fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port));
        let listener = listener.with_context(|| format!("port {port}"))?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for (connection, stream) in (0..).zip(listener.incoming().flatten()) {
                let state = shared.clone();
                std::thread::spawn(move || {
                    // Proxies close as they like.
                    let _ = serve(stream, connection, &state);
                    cut_off(&state, connection);
                });
            }
        });
        Ok(Recorder(state))
    }

    /// A case begins.
    pub(super) fn begin(&self, script: Option<Script>) {
        let mut state = lock(&self.0);
        state.case += 1;
        state.script = script;
        state.record = Record::default();
    }

    /// Waits until every script is played to its end.
    pub(super) fn settle(&self) {
        while lock(&self.0).playing > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What its case has brought so far.
    pub(super) fn take(&self) -> Record {
        let mut state = lock(&self.0);
        let mut record = std::mem::take(&mut state.record);
        let pending = state.pending.values();
        let own = pending.filter(|(case, bytes)| *case == state.case && !bytes.is_empty());
        record
            .unfinished
            .extend(own.map(|(_, bytes)| bytes.clone()));
        record
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, connection: u64, state: &Mutex<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut buffer = [0; 16 * 1024];
    // The request that is under way has its answer already.
    let mut answered = false;
    loop {
        let n_read = stream.read(&mut buffer)?;
        if n_read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..n_read]);
        loop {
            match strict::request(&input) {
                Ok(Some((request, length))) => {
                    input.drain(..length);
                    let pieces = note(state, connection, request, answered);
                    pend(state, connection, &input);
                    play(state, &mut stream, &pieces)?;
                    answered = false;
                    if input.is_empty() {
                        break;
                    }
                }
                Ok(None) => {
                    pend(state, connection, &input);
                    if let Some(pieces) = early(state, &input).filter(|_| !answered) {
                        answered = true;
                        play(state, &mut stream, &pieces)?;
                    }
                    break;
                }
                Err(fault) => {
                    let text = format!("{fault} in {}", input.escape_ascii());
                    lock(state).record.faults.push(text);
                    let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(refusal)?;
                    return Ok(stream.shutdown(Shutdown::Both)?);
                }
            }
        }
    }
}

/// Writes down what came of a request that did not come to its end.
fn cut_off(state: &Mutex<State>, connection: u64) {
    let state = &mut *lock(state);
    let left = state.pending.remove(&connection);
    if let Some((_, bytes)) = left.filter(|(case, bytes)| *case == state.case && !bytes.is_empty())
    {
        state.record.unfinished.push(bytes);
    }
}

/// Writes down that a request is under way.
fn pend(state: &Mutex<State>, connection: u64, input: &[u8]) {
    let state = &mut *lock(state);
    let (case, bytes) = state.pending.entry(connection).or_default();
    if bytes.is_empty() {
        *case = state.case;
    }
    *bytes = input.to_vec();
}

/// Writes down a request, and says what it is answered.
fn note(state: &Mutex<State>, connection: u64, request: Message, answered: bool) -> Vec<Piece> {
    let state = &mut *lock(state);
    let case = state
        .pending
        .remove(&connection)
        .filter(|(_, bytes)| !bytes.is_empty());
    let script = state.script.clone().filter(|_| is_case(&request.line[1]));
    state.number += 1;
    let pieces = match &script {
        Some(_) if answered => Vec::new(),
        Some(script) => script.pieces.clone(),
        None => vec![Piece::Bytes(answer(&request, state.number))],
    };
    // What is left of an earlier case is not this one's.
    if case.is_none_or(|(case, _)| case == state.case) {
        let scripted = script.is_some();
        state.record.seen.push(Seen {
            number: state.number,
            request,
            scripted,
        });
    }
    pieces
}

fn is_case(target: &str) -> bool {
    target.contains("/case")
}

/// The script where it does not wait for the body.
fn early(state: &Mutex<State>, input: &[u8]) -> Option<Vec<Piece>> {
    let script = lock(state).script.clone().filter(|script| script.early)?;
    let head = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    is_case(&String::from_utf8_lossy(&input[..head])).then_some(script.pieces)
}

fn answer(request: &Message, number: u64) -> Vec<u8> {
    let body = if request.line[0] == "HEAD" {
        ""
    } else {
        "seen\n"
    };
    format!("HTTP/1.1 200 OK\r\n{MARK}: {number}\r\ncontent-length: 5\r\n\r\n{body}").into()
}

fn play(state: &Mutex<State>, stream: &mut TcpStream, pieces: &[Piece]) -> Result<()> {
    lock(state).playing += 1;
    let sent = send(stream, pieces);
    lock(state).playing -= 1;
    sent
}

fn send(stream: &mut TcpStream, pieces: &[Piece]) -> Result<()> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => stream.write_all(bytes)?,
            Piece::Pause(time) => std::thread::sleep(*time),
            Piece::Close => {
                stream.shutdown(Shutdown::Both)?;
                // What has arrived meanwhile is not read.
                anyhow::bail!("closed");
            }
        }
    }
    Ok(())
}
