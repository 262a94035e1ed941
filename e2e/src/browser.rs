//! A browser without a window, for pages: it opens one and runs scripts in it.
//!
//! The way in is Chromium's DevTools protocol: JSON messages over a WebSocket.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{eventually, http::Http};

/// Where Debian has it.
const PROGRAM: &str = "/usr/bin/chromium";
/// What it says once it can be spoken to, before the address.
const LISTENS: &str = "DevTools listening on ws://";

/// A page that is open. Dropping it ends the browser.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Whether this machine has one.
    pub fn is_here() -> bool {
        Path::new(PROGRAM).exists()
    }

    /// Opens a page.
    pub async fn open(url: &str) -> anyhow::Result<Browser> {
        let profile = tempfile::tempdir()?;
        let mut child = Command::new(PROGRAM)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--no-first-run", "--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {PROGRAM}"))?;
        let connected = connect(&mut child).await;
        let socket = match connected {
            Ok(socket) => socket,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let mut browser = Browser {
            child,
            socket,
            last_id: 0,
            _profile: profile,
        };
        browser.call("Page.navigate", json!({"url": url})).await?;
        Ok(browser)
    }

    /// What a script comes to, in the page; a promise is waited for.
    pub async fn eval(&mut self, script: &str) -> anyhow::Result<Value> {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params).await?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{script}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let message = json!({"id": id, "method": method, "params": params});
        self.socket.send(Message::text(message.to_string())).await?;
        while let Some(message) = self.socket.next().await {
            // What is not an answer is news that nobody asked for.
            let Message::Text(text) = message? else {
                continue;
            };
            let answer: Value = serde_json::from_str(text.as_str())?;
            if answer["id"] == id {
                let error = &answer["error"];
                if !error.is_null() {
                    bail!("{method}: {error}");
                }
                return Ok(answer["result"].clone());
            }
        }
        bail!("the browser is gone")
    }
}

/// Finds the browser's own page and connects to it.
async fn connect(child: &mut Child) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let stderr = child.stderr.take().context("it was piped")?;
    let found = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let line = lines.find_map(|line| line.strip_prefix(LISTENS).map(str::to_owned));
        // It has more to say, and would wait for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        line
    });
    let address = found.await?.context("the browser ended")?;
    let host = address.split('/').next().unwrap_or_default().to_owned();
    let address: SocketAddr = host.parse().with_context(|| host.clone())?;
    let http = Http::new(address);
    let url = eventually("the browser's page", async || {
        let pages: Value = serde_json::from_str(&http.get("/json/list").await?.body)?;
        let mut pages = pages.as_array().into_iter().flatten();
        let page = pages
            .find(|page| page["type"] == "page")
            .context("no page")?;
        let url = page["webSocketDebuggerUrl"].as_str();
        url.map(str::to_owned).context("no address")
    })
    .await?;
    let stream = TcpStream::connect(address).await?;
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    Ok(socket)
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
