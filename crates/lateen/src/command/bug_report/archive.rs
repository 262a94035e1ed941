//! The archive: a compressed tar file that nobody but its owner can read, and which is there only when
//! it is whole.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Files that wait to be compressed before no more are fetched.
const QUEUE: usize = 4;

/// An archive that is written beside those who fetch.
pub(super) struct Archive {
    files_tx: mpsc::Sender<(String, Vec<u8>)>,
    writing: JoinHandle<std::io::Result<()>>,
    partial: PathBuf,
    path: PathBuf,
}

impl Archive {
    /// Files go into `folder` in the archive.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn create(path: &Path, folder: &str) -> anyhow::Result<Self> {
        let partial = path.with_extension("gz.partial");
        // Somebody else's file of this name would keep its owner.
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot take {} away", partial.display()));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        let (files_tx, files_rx) = mpsc::channel(QUEUE);
        let folder = folder.to_owned();
        let writing = tokio::task::spawn_blocking(move || write(file, &folder, files_rx));
        Ok(Archive {
            files_tx,
            writing,
            partial,
            path: path.to_owned(),
        })
    }

    pub(super) async fn add(&self, path: &str, content: String) -> anyhow::Result<()> {
        let file = (path.to_owned(), content.into_bytes());
        let sent = self.files_tx.send(file).await;
        // The writer has ended by an error, which `finish` would tell.
        sent.map_err(|_| anyhow!("cannot write {}", self.partial.display()))
    }

    /// Ends the file and gives it its name.
    pub(super) async fn finish(self) -> anyhow::Result<PathBuf> {
        drop(self.files_tx);
        let written = self.writing.await.context("the archive's writer")?;
        written.with_context(|| format!("cannot write {}", self.partial.display()))?;
        std::fs::rename(&self.partial, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.path)
    }
}

fn write(
    file: File,
    folder: &str,
    mut files_rx: mpsc::Receiver<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    while let Some((path, content)) = files_rx.blocking_recv() {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        tar.append_data(&mut header, format!("{folder}/{path}"), content.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The files of an archive.
    pub(in super::super) fn read(path: &Path) -> BTreeMap<String, String> {
        let file = File::open(path).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (path, text)
        });
        entries.collect()
    }

    #[tokio::test]
    async fn only_the_whole_archive_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.gz");
        let archive = Archive::create(&path, "x").unwrap();
        // Names longer than the format's own field for them.
        let long = "proxies/".to_owned() + &"n".repeat(150);
        for n in 0..20 {
            let path = format!("{long}/{n}");
            archive.add(&path, format!("{n}")).await.unwrap();
        }
        assert!(!path.exists());
        let path = archive.finish().await.unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = read(&path);
        assert_eq!(files.len(), 20);
        assert_eq!(files[&format!("x/{long}/7")], "7");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let path = Path::new("/nonexistent/x.tar.gz");
        let error = Archive::create(path, "x").err().unwrap();
        assert!(format!("{error:#}").contains("/nonexistent"), "{error:#}");
    }
}
