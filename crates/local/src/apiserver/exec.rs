//! `pods/{name}/exec` over WebSocket: a program in a container, with its streams.
//!
//! Channel 0 is standard input, 1 standard output, 2 standard error, 3 how it ended, as a `Status`, 4
//! the size of the terminal. In `v5` channel 255 closes the channel that its one byte names, which is
//! how the program's input ends before the session does.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Utf8Bytes, coding::CloseCode};

use super::core::Core;
use super::error::ApiError;
use super::reply::Reply;
use super::request::Call;
use super::upgrade::{WebSocket, not_supported};

/// What is spoken here, best first.
const PROTOCOLS: [&str; 2] = [WITH_CLOSE, "v4.channel.k8s.io"];
/// The one that can close one channel.
const WITH_CLOSE: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Bytes that are read from a program at once.
const CHUNK: usize = 16 * 1024;
/// Messages that may wait for a slow client before the program is no longer read.
const QUEUE: usize = 16;

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container; may be left out where there is one only.
    pub container: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether it gets a terminal; standard error goes to standard output then.
    pub tty: bool,
}

/// A program that runs in a container. Dropping the session kills it.
pub struct Session {
    /// Its standard input; dropping it ends the input, but for a terminal's.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output, or its terminal.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets the size of the terminal, columns and rows.
    pub resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Its exit code, once it has ended.
    pub exit: futures::future::BoxFuture<'static, io::Result<i32>>,
}

/// Runs programs in containers.
#[async_trait::async_trait]
pub trait PodExec: Send + Sync {
    /// Starts the program.
    ///
    /// # Errors
    /// When the container does not run here, is not named where there are several, or the program
    /// cannot be started.
    async fn exec(&self, command: Command) -> io::Result<Session>;
}

/// Answers `pods/{name}/exec`.
pub(super) fn accept(core: &Arc<Core>, call: &Call) -> Result<Reply, ApiError> {
    let executor = core.executor.clone();
    let executor = executor.ok_or_else(|| not_supported("exec without a node"))?;
    let upgrade = call.upgrade.as_ref();
    let upgrade = upgrade.filter(|upgrade| !upgrade.is_spdy());
    let upgrade = upgrade.ok_or_else(|| not_supported("exec other than by WebSocket"))?;
    if call.command.is_empty() {
        return Err(ApiError::bad_request("you must specify at least 1 command"));
    }
    let asks = |parameter| {
        call.parameter(parameter)
            .is_some_and(|value| value == "true" || value == "1")
    };
    let command = Command {
        namespace: call.target.namespace.clone(),
        pod: call.target.name.clone(),
        container: call.parameter("container").map(str::to_owned),
        argv: call.command.clone(),
        tty: asks("tty"),
    };
    let with_input = asks("stdin");
    upgrade.accept(core, &PROTOCOLS, move |socket, protocol| async move {
        let session = executor.exec(command).await;
        serve(socket, session, with_input, protocol == WITH_CLOSE).await;
    })
}

async fn serve(
    socket: WebSocket,
    session: io::Result<Session>,
    with_input: bool,
    with_close: bool,
) {
    let (mut sink, stream) = socket.split();
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            let status = failure("InternalError", &error.to_string(), Vec::new());
            // The client may be gone, and then nobody wants to know.
            let _ = sink
                .send(message(ERROR, status.to_string().as_bytes()))
                .await;
            close(sink).await;
            return;
        }
    };
    let (message_tx, message_rx) = mpsc::channel(QUEUE);
    let stdin = with_input.then_some(session.stdin);
    let output = async {
        let stderr = async {
            if let Some(stderr) = session.stderr {
                pump(stderr, STDERR, &message_tx).await;
            }
        };
        tokio::join!(pump(session.stdout, STDOUT, &message_tx), stderr);
        let status = ended(session.exit.await);
        let _ = message_tx
            .send(message(ERROR, status.to_string().as_bytes()))
            .await;
        drop(message_tx);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = to_client(sink, message_rx) => {}
        () = output => {}
        () = from_client(stream, stdin, session.resize, with_close) => {}
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    Message::Binary(Bytes::from([&[channel], data].concat()))
}

async fn pump(mut from: impl AsyncRead + Unpin, channel: u8, message_tx: &mpsc::Sender<Message>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if message_tx
            .send(message(channel, &buffer[..n]))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn to_client(mut sink: SplitSink<WebSocket, Message>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    close(sink).await;
}

/// Clients take an end without a code for a broken connection.
async fn close(mut sink: SplitSink<WebSocket, Message>) {
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    // The client may have gone first.
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.close().await;
}

/// Returns when the client is gone.
async fn from_client(
    mut stream: SplitStream<WebSocket>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    with_close: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(bytes) = message else {
            continue;
        };
        match bytes.split_first() {
            Some((&STDIN, data)) => {
                let failed = match &mut stdin {
                    Some(stdin) => stdin.write_all(data).await.is_err(),
                    None => false,
                };
                if failed {
                    stdin = None;
                }
            }
            Some((&RESIZE, data)) => {
                if let Ok(size) = serde_json::from_slice::<Size>(data) {
                    resize(size.width, size.height);
                }
            }
            Some((&CLOSE, [STDIN])) if with_close => stdin = None,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// The `Status` that says how the program ended.
fn ended(exit: io::Result<i32>) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => {
            let text = format!("command terminated with non-zero exit code: exit status {code}");
            let cause = json!({"reason": "ExitCode", "message": code.to_string()});
            failure("NonZeroExitCode", &text, vec![cause])
        }
        Err(error) => failure("InternalError", &error.to_string(), Vec::new()),
    }
}

fn failure(reason: &str, message: &str, causes: Vec<Value>) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": {"causes": causes},
    })
}
