//! Where access-log lines go. A thread writes; a request never waits for a disk, and when the
//! thread cannot keep up lines are dropped and counted.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Lines that wait for the thread.
const WAITING: usize = 16_384;

/// A file that access-log lines go to.
#[derive(Debug)]
pub struct Sink {
    lines_tx: SyncSender<String>,
    dropped: AtomicU64,
}

static OPEN: LazyLock<Mutex<HashMap<PathBuf, Arc<Sink>>>> = LazyLock::new(Mutex::default);

impl Sink {
    /// Opens a file for appending, `/dev/stdout` for standard output. The same path is opened once.
    pub fn open(path: &Path) -> std::io::Result<Arc<Self>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = open.get(path) {
            return Ok(sink.clone());
        }
        let out: Box<dyn Write + Send> = match path.to_str() {
            Some("/dev/stdout") => Box::new(std::io::stdout()),
            Some("/dev/stderr") => Box::new(std::io::stderr()),
            _ => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let (lines_tx, lines_rx) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&lines_rx, BufWriter::with_capacity(64 * 1024, out)))?;
        let sink = Arc::new(Sink {
            lines_tx,
            dropped: AtomicU64::new(0),
        });
        open.insert(path.to_owned(), sink.clone());
        Ok(sink)
    }

    /// Hands a line over.
    pub fn write(&self, line: String) {
        if self.lines_tx.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes lines as they come and flushes when there is none left.
fn write(lines_rx: &Receiver<String>, mut out: impl Write) {
    while let Ok(line) = lines_rx.recv() {
        // A full disk costs lines, not the process.
        let _ = out.write_all(line.as_bytes());
        while let Ok(line) = lines_rx.try_recv() {
            let _ = out.write_all(line.as_bytes());
        }
        let _ = out.flush();
    }
}
