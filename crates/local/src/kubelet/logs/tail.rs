//! Logs read back, for `kubectl logs`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;

use super::{PIECE, container_dir, end_mark, runs};
use crate::apiserver::{LogOptions, LogSource, LogStream};
use crate::state::StateDir;

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

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
    /// Whether the last piece was not the end of its line.
    in_line: bool,
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
            in_line: false,
        }
    }

    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            // Looked at first: what was written before the mark must still be read.
            let ended = end_mark(&self.path).exists();
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
            if !self.options.follow || ended || self.is_full() || !self.path.exists() {
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
            let Some((time, whole, text)) = parse(&line) else {
                continue;
            };
            let old = since.is_some_and(|since| {
                time.parse::<Timestamp>()
                    .is_ok_and(|time| time.as_second() < since)
            });
            if old {
                continue;
            }
            let mut out = if self.options.timestamps && !self.in_line {
                format!("{time} ").into_bytes()
            } else {
                Vec::new()
            };
            out.extend_from_slice(text);
            if whole {
                out.push(b'\n');
            }
            match kept.back_mut().filter(|_| self.in_line) {
                Some(begun) => begun.extend(out),
                None => kept.push_back(out),
            }
            self.in_line = !whole;
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

/// Time of a line, whether it ends there, and its text.
fn parse(line: &[u8]) -> Option<(&str, bool, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let (_stream, flag) = (parts.next()?, parts.next()?);
    Some((time, flag != PIECE.as_bytes(), parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::super as logs;
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn written() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"}}))
        .unwrap();
        for run in 0..3 {
            let mut file = logs::open(&state, &pod, "c", run).unwrap();
            for line in ["one", "two", "three"] {
                let text = format!("{run} {line}");
                file.write("stdout", text.as_bytes(), true).unwrap();
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
    async fn a_followed_log_ends_with_its_container() {
        let (_dir, state) = written();
        let log = container_dir(&state, "n", "p", "u", "c").join("2.log");
        File::create(end_mark(&log)).unwrap();
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        assert_eq!(
            read(&state, options).await.unwrap(),
            "2 one\n2 two\n2 three\n"
        );
    }

    #[tokio::test]
    async fn pieces_are_put_together() {
        let (_dir, state) = written();
        let log = container_dir(&state, "n", "p", "u", "c").join("2.log");
        let mut file = logs::LogFile::open(log).unwrap();
        file.write("stdout", b"be", false).unwrap();
        file.write("stdout", b"gun", true).unwrap();
        let options = LogOptions {
            tail_lines: Some(1),
            ..LogOptions::default()
        };
        assert_eq!(read(&state, options).await.unwrap(), "begun\n");
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
