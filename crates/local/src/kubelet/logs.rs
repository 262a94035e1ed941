//! Containers' output: written with times, rotated, and read back for `kubectl logs`.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> F <text>`, the format of the container runtime interface.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ResourceExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};

use crate::Error;
use crate::apiserver::{LogOptions, LogSource, LogStream};
use crate::state::StateDir;

/// A log is moved aside at this size, and what was aside before is dropped.
const MAX_SIZE: u64 = 10 << 20;
/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

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

    fn write(&mut self, stream: &str, text: &[u8]) -> io::Result<()> {
        if self.size > MAX_SIZE {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.size = 0;
        }
        let mut line = format!("{:.9} {stream} F ", Timestamp::now()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }
}

/// Writes both streams to the log until they end.
pub(super) fn pump(file: LogFile, stdout: ChildStdout, stderr: ChildStderr) {
    let file = Arc::new(Mutex::new(file));
    tokio::spawn(lines(Arc::clone(&file), "stdout", stdout));
    tokio::spawn(lines(file, "stderr", stderr));
}

async fn lines(file: Arc<Mutex<LogFile>>, stream: &'static str, from: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        // A full disk costs log lines, not the container.
        let _ = file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(stream, &line);
    }
}

/// Reads the logs that containers left in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct ContainerLogs {
    state: StateDir,
}

impl ContainerLogs {
    pub(crate) fn new(state: StateDir) -> Self {
        Self { state }
    }
}

#[async_trait::async_trait]
impl LogSource for ContainerLogs {
    async fn open(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        options: LogOptions,
    ) -> Result<LogStream, String> {
        let container = &options.container;
        let dir = container_dir(&self.state, namespace, pod, uid, container);
        let mut runs = runs(&dir);
        let latest = runs.pop().ok_or_else(|| {
            format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating")
        })?;
        let path = if options.previous {
            let message =
                || format!("previous terminated container {container:?} in pod {pod:?} not found");
            runs.pop().ok_or_else(message)?.1
        } else {
            latest.1
        };
        let tail = Tail::open(path, options);
        Ok(futures::stream::unfold(tail, Tail::next).boxed())
    }
}

/// Reads a log from somewhere to its end, or on and on.
struct Tail {
    path: PathBuf,
    options: LogOptions,
    offset: u64,
    partial: Vec<u8>,
    sent: u64,
    begun: bool,
}

impl Tail {
    fn open(path: PathBuf, options: LogOptions) -> Self {
        Self {
            path,
            options,
            offset: 0,
            partial: Vec::new(),
            sent: 0,
            begun: false,
        }
    }

    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            let lines = match self.read() {
                Ok(lines) => lines,
                Err(error) => {
                    self.options.follow = false;
                    return (self.begun).then_some((Err(error), self));
                }
            };
            let first = !std::mem::replace(&mut self.begun, true);
            let text = self.format(lines, first);
            if !text.is_empty() {
                return Some((Ok(text), self));
            }
            if !self.options.follow || self.is_full() || !self.path.exists() {
                return None;
            }
            // A newer run ends the stream, as it does for `kubectl logs -f`.
            let newest = self.path.parent().map(runs).and_then(|mut runs| runs.pop());
            if newest.is_some_and(|(_, path)| path != self.path) {
                return None;
            }
            tokio::time::sleep(FOLLOW).await;
        }
    }

    fn is_full(&self) -> bool {
        self.options
            .limit_bytes
            .is_some_and(|limit| self.sent >= limit)
    }

    /// Whole lines that were written since the last time.
    fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = std::mem::take(&mut self.partial);
        self.offset += file.read_to_end(&mut bytes)? as u64;
        let mut lines: Vec<Vec<u8>> = bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        self.partial = lines.pop().unwrap_or_default();
        Ok(lines)
    }

    fn format(&mut self, lines: Vec<Vec<u8>>, first: bool) -> Bytes {
        let since = self.options.since_seconds.map(|seconds| {
            Timestamp::now().as_second() - i64::try_from(seconds).unwrap_or(i64::MAX)
        });
        let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
        for line in lines {
            let Some((time, text)) = parse(&line) else {
                continue;
            };
            let old = since.is_some_and(|since| {
                time.parse::<Timestamp>()
                    .is_ok_and(|time| time.as_second() < since)
            });
            if old {
                continue;
            }
            let mut out = if self.options.timestamps {
                format!("{time} ").into_bytes()
            } else {
                Vec::new()
            };
            out.extend_from_slice(text);
            out.push(b'\n');
            kept.push_back(out);
        }
        if let (true, Some(tail)) = (first, self.options.tail_lines) {
            let tail = usize::try_from(tail).unwrap_or(usize::MAX);
            while kept.len() > tail {
                kept.pop_front();
            }
        }
        let mut bytes: Vec<u8> = kept.into_iter().flatten().collect();
        if let Some(limit) = self.options.limit_bytes {
            let left = limit.saturating_sub(self.sent);
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.sent += bytes.len() as u64;
        bytes.into()
    }
}

/// Time and text of a line.
fn parse(line: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let (_stream, _flag) = (parts.next()?, parts.next()?);
    Some((time, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"}}))
        .unwrap();
        for run in 0..3 {
            let mut file = super::open(&state, &pod, "c", run).unwrap();
            for line in ["one", "two", "three"] {
                file.write("stdout", format!("{run} {line}").as_bytes())
                    .unwrap();
            }
        }
        (dir, state)
    }

    async fn read(state: &StateDir, options: LogOptions) -> Result<String, String> {
        let options = LogOptions {
            container: "c".into(),
            ..options
        };
        let stream = ContainerLogs::new(state.clone())
            .open("n", "p", "u", options)
            .await?;
        let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap()).collect().await;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }

    #[tokio::test]
    async fn whole_tail_previous_and_limit() {
        let (_dir, state) = written();
        let get = |options| read(&state, options);
        assert_eq!(
            get(LogOptions::default()).await.unwrap(),
            "2 one\n2 two\n2 three\n"
        );
        assert_eq!(
            get(LogOptions {
                tail_lines: Some(1),
                ..LogOptions::default()
            })
            .await
            .unwrap(),
            "2 three\n"
        );
        assert_eq!(
            get(LogOptions {
                limit_bytes: Some(3),
                ..LogOptions::default()
            })
            .await
            .unwrap(),
            "2 o"
        );
        let previous = LogOptions {
            previous: true,
            ..LogOptions::default()
        };
        assert_eq!(get(previous).await.unwrap(), "1 one\n1 two\n1 three\n");
        let times = get(LogOptions {
            timestamps: true,
            ..LogOptions::default()
        })
        .await
        .unwrap();
        assert!(
            times
                .lines()
                .all(|line| line.split(' ').next().unwrap().parse::<Timestamp>().is_ok())
        );
    }

    #[tokio::test]
    async fn only_two_runs_are_kept_and_absence_is_explained() {
        let (_dir, state) = written();
        assert_eq!(runs(&container_dir(&state, "n", "p", "u", "c")).len(), 2);
        let logs = ContainerLogs::new(state);
        let options = LogOptions {
            container: "x".into(),
            ..LogOptions::default()
        };
        let error = logs.open("n", "p", "u", options).await.err().unwrap();
        assert!(error.contains("waiting to start"), "{error}");
    }
}
