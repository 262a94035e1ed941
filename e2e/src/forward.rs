//! A `kubectl port-forward` that runs beside a test, and what it says.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    process::{Child, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{Kubectl, PATIENCE};

/// What it says once it listens, before the address.
const LISTENS: &str = "Forwarding from 127.0.0.1:";

/// A port of a pod, as long as this lives.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    said: Arc<Said>,
    address: SocketAddr,
}

/// Everything that was printed, and news of it.
#[derive(Debug, Default)]
struct Said {
    text: Mutex<String>,
    news: Condvar,
}

impl Kubectl {
    /// `kubectl port-forward` with these arguments, once it listens.
    pub fn forward(&self, args: &[&str]) -> anyhow::Result<Forward> {
        let mut command = self.command(&[&["port-forward"], args].concat());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("run kubectl port-forward")?;
        let said = Arc::new(Said::default());
        listen(child.stdout.take().context("it was piped")?, &said);
        listen(child.stderr.take().context("it was piped")?, &said);
        let mut forward = Forward {
            child,
            said,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let text = forward.said_until(LISTENS, PATIENCE)?;
        let rest = text
            .split_once(LISTENS)
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        forward.address.set_port(digits.parse().context("a port")?);
        Ok(forward)
    }
}

impl Forward {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a line with this was printed; everything up to then.
    pub fn said_until(&self, part: &str, patience: Duration) -> anyhow::Result<String> {
        let text = self
            .said
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lacks = |text: &mut String| !text.contains(part);
        let waited = self.said.news.wait_timeout_while(text, patience, lacks);
        let (text, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!("kubectl port-forward did not say {part:?} but {text:?}");
        }
        Ok(text.clone())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Notes whole lines until the stream ends.
fn listen(stream: impl Read + Send + 'static, said: &Arc<Said>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = said.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
            said.news.notify_all();
        }
    });
}
