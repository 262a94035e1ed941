//! Containers' output: written with times, rotated, and read back for `kubectl logs`.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, the format of the container runtime
//! interface; `P` marks pieces of a long line but the last.

mod tail;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ResourceExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};

use crate::Error;
use crate::state::StateDir;

pub(crate) use tail::ContainerLogs;

/// A log is moved aside at this size, and what was aside before is dropped.
const MAX_SIZE: u64 = 10 << 20;
/// What a line of the log holds at most; longer ones are written in pieces.
const MAX_LINE: usize = 16 << 10;
/// The flag of a line that is whole, or the end of one.
const WHOLE: &str = "F";
/// The flag of a piece that is not the last.
const PIECE: &str = "P";

/// The log of one run of one container.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

/// Opens the log of run number `run`; of the runs before only the last is kept.
pub(super) fn open(
    state: &StateDir,
    pod: &Pod,
    container: &str,
    run: i32,
) -> Result<LogFile, Error> {
    let dir = container_dir(
        state,
        &pod.namespace().unwrap_or_default(),
        &pod.name_any(),
        &pod.uid().unwrap_or_default(),
        container,
    );
    fs::create_dir_all(&dir).map_err(Error::io("create a log directory"))?;
    for (number, path) in runs(&dir) {
        if number < i64::from(run) - 1 {
            let _ = fs::remove_file(end_mark(&path));
            let _ = fs::remove_file(path);
        }
    }
    LogFile::open(dir.join(format!("{run}.log")))
}

/// Removes all logs of a pod.
pub(super) fn forget(state: &StateDir, pod: &Pod) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let _ = fs::remove_dir_all(pod_dir(
        state,
        &namespace,
        &name,
        &pod.uid().unwrap_or_default(),
    ));
}

fn pod_dir(state: &StateDir, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    state.logs_dir().join(format!("{namespace}_{pod}_{uid}"))
}

fn container_dir(
    state: &StateDir,
    namespace: &str,
    pod: &str,
    uid: &str,
    container: &str,
) -> PathBuf {
    pod_dir(state, namespace, pod, uid).join(container)
}

/// The runs that have a log, in order.
fn runs(dir: &Path) -> Vec<(i64, PathBuf)> {
    let entries = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let numbered = entries.filter_map(|path| {
        let number = path
            .file_name()?
            .to_str()?
            .strip_suffix(".log")?
            .parse()
            .ok()?;
        Some((number, path))
    });
    let mut runs: Vec<(i64, PathBuf)> = numbered.collect();
    runs.sort();
    runs
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(format!("open {}", path.display())))?;
        let size = file.metadata().map_or(0, |meta| meta.len());
        Ok(Self { path, file, size })
    }

    /// Writes a line, or a piece of one whose end comes later.
    fn write(&mut self, stream: &str, text: &[u8], whole: bool) -> io::Result<()> {
        if self.size > MAX_SIZE {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.size = 0;
        }
        let flag = if whole { WHOLE } else { PIECE };
        let mut line = format!("{:.9} {stream} {flag} ", Timestamp::now()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }
}

/// Writes both streams to the log until they end, and marks the end.
pub(super) fn pump(file: LogFile, stdout: ChildStdout, stderr: ChildStderr) {
    let mark = end_mark(&file.path);
    let file = Arc::new(Mutex::new(file));
    tokio::spawn(async move {
        let stdout = lines(Arc::clone(&file), "stdout", stdout);
        let stderr = lines(Arc::clone(&file), "stderr", stderr);
        tokio::join!(stdout, stderr);
        let _ = File::create(mark);
    });
}

/// The file whose being there says that a log grows no more.
fn end_mark(log: &Path) -> PathBuf {
    log.with_extension("end")
}

async fn lines(file: Arc<Mutex<LogFile>>, stream: &'static str, from: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(Some(whole)) = piece(&mut reader, &mut line).await {
        // A full disk costs log lines, not the container.
        let _ = file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(stream, &line, whole);
    }
}

/// Reads to the end of the line, or as much as a line of the log may hold: a program that never ends
/// its line must not fill the memory. Says whether the line is whole; nothing at the end.
async fn piece(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Option<bool>> {
    line.clear();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok((!line.is_empty()).then_some(true));
        }
        let bytes = &bytes[..bytes.len().min(MAX_LINE - line.len())];
        let end = bytes.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
        let used = end.map_or(bytes.len(), |end| end + 1);
        reader.consume(used);
        match end {
            Some(_) => return Ok(Some(true)),
            None if line.len() == MAX_LINE => return Ok(Some(false)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_come_in_pieces() {
        let long = "x".repeat(MAX_LINE);
        let text = format!("one\n{long}y\n\n{long}\nend");
        let mut reader = BufReader::new(text.as_bytes());
        let (mut line, mut seen) = (Vec::new(), Vec::new());
        while let Some(whole) = piece(&mut reader, &mut line).await.unwrap() {
            seen.push((line.len(), whole));
        }
        let all = [
            (3, true),
            (MAX_LINE, false),
            (1, true),
            (0, true),
            (MAX_LINE, false),
        ];
        assert_eq!(seen, [&all[..], &[(0, true), (3, true)]].concat());
    }
}
