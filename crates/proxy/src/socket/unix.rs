//! Sockets in the file system, and in the abstract namespace (`@name`).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use lateen_core::pipe;
use lateen_decode::Pipe;
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// The address of a path. One that begins with `@` names a socket of the abstract namespace.
fn address(path: &str) -> io::Result<SockAddr> {
    use std::os::linux::net::SocketAddrExt;
    match path.strip_prefix('@') {
        None => SockAddr::unix(path),
        Some(name) => {
            // Whether the name fits is for the standard library to say.
            SocketAddr::from_abstract_name(name)?;
            SockAddr::unix(format!("\0{name}"))
        }
    }
}

/// The one path of a socket: without elements that say nothing, and without links where its folder is
/// there.
pub(crate) fn place(path: &str) -> PathBuf {
    let plain = PathBuf::from(pipe::plain(path));
    let folder = plain.parent().and_then(|of| of.canonicalize().ok());
    match (folder, plain.file_name()) {
        (Some(folder), Some(name)) if plain.is_absolute() => folder.join(name),
        _ => plain,
    }
}

/// A file or folder that was looked up once, over links: whatever becomes of its path, what is done by
/// its handle is done with this one.
struct Found {
    file: File,
}

impl Found {
    fn at(path: &Path) -> io::Result<Found> {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_PATH);
        let file = options.open(path)?;
        Ok(Found { file })
    }

    /// A path that leads to it, short as the addresses of sockets have to be.
    fn handle(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Where it is now, without links.
    fn place(&self) -> io::Result<PathBuf> {
        let place = std::fs::read_link(self.handle())?;
        // What is not in the file system any more has a text there that is no path.
        match self.file.metadata()?.nlink() {
            0 => Err(ErrorKind::NotFound.into()),
            _ => Ok(place),
        }
    }
}

/// Refuses paths to which no configuration may lead.
fn check(path: &Path) -> io::Result<()> {
    match pipe::refusal(&path.to_string_lossy()) {
        Some(reason) => Err(io::Error::new(ErrorKind::PermissionDenied, reason)),
        None => Ok(()),
    }
}

/// Binds a listening socket at a path. A socket that is there already is replaced, as by Envoy: it
/// stays in the file system when its listener goes, and would keep the next one out. Any other file
/// stays.
pub(crate) fn listen(pipe: &Pipe) -> io::Result<UnixListener> {
    let path = Path::new(&*pipe.path);
    check(path)?;
    let address = address(&pipe.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if pipe.path.starts_with('@') {
        socket.bind(&address)?;
        socket.listen(BACKLOG)?;
        return Ok(socket.into());
    }
    let no_file = || io::Error::new(ErrorKind::InvalidInput, "it names no file");
    let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(no_file)?;
    let folder = Found::at(folder)?;
    check(&folder.place()?.join(name))?;
    let place = folder.handle().join(name);
    leave_other_files(&place)?;
    // Nobody connects before the mode is set, and the old socket is there until the new one is.
    let beside = bind_beside(&socket, &folder)?;
    let placed = (|| {
        if pipe.mode != 0 {
            std::fs::set_permissions(&beside, PermissionsExt::from_mode(pipe.mode))?;
        }
        socket.listen(BACKLOG)?;
        std::fs::rename(&beside, &place)
    })();
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    placed?;
    Ok(socket.into())
}

/// Binds a socket in a folder under a name that nothing has, and returns its path.
fn bind_beside(socket: &Socket, folder: &Found) -> io::Result<PathBuf> {
    loop {
        let name = format!(".lateen-{:016x}", fastrand::u64(..));
        let path = folder.handle().join(name);
        match socket.bind(&SockAddr::unix(&path)?) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.map(|()| path),
        }
    }
}

/// Refuses a path at which there is something that is no socket.
fn leave_other_files(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "there is something that is no socket",
        )),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to whoever listens at a path.
pub(crate) async fn connect(path: &str) -> io::Result<tokio::net::UnixStream> {
    check(Path::new(path))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The kernel answers at once, or has no room in the queue of the listener.
    if path.starts_with('@') {
        socket.connect(&address(path)?)?;
    } else {
        let found = Found::at(Path::new(path))?;
        check(&found.place()?)?;
        socket.connect(&SockAddr::unix(found.handle())?)?;
    }
    tokio::net::UnixStream::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(path: &str, mode: u32) -> Pipe {
        Pipe {
            path: path.into(),
            mode,
        }
    }

    /// A new folder, and paths in it.
    fn folder(name: &str) -> PathBuf {
        let name = format!("lateen-unix-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn files_stay_where_they_are() {
        let folder = folder("files");
        let at = |name: &str| folder.join(name).to_str().expect("text").to_owned();
        let file = at("file");
        std::fs::write(&file, "mine").expect("written");
        std::os::unix::fs::symlink(&file, at("link")).expect("a link");
        for path in [&file, &at("link")] {
            let refused = listen(&pipe(path, 0)).expect_err("no socket");
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{path}");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "mine");
        // Nor are other sockets, however they are called, and there is no other file afterwards.
        let neighbour = UnixListener::bind(at("socket~")).expect("a socket");
        let _listener = listen(&pipe(&at("socket"), 0)).expect("a socket");
        assert!(folder.join("socket~").exists());
        drop(neighbour);
        let found = std::fs::read_dir(&folder).expect("a folder");
        let mut names: Vec<_> = found.map(|of| of.expect("a file").file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "link", "socket", "socket~"]);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn paths_may_be_as_long_as_the_kernel_lets_them_be() {
        let folder = folder("long");
        let at = folder.to_str().expect("text");
        let path = format!("{at}/{}", "a".repeat(106 - at.len()));
        assert_eq!(path.len(), 107);
        let _listener = listen(&pipe(&path, 0)).expect("it fits");
        connect(&path).await.expect("a listener");
        assert!(listen(&pipe(&format!("{path}a"), 0)).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    /// What was looked at is what is connected to, whatever its path leads to by then.
    #[test]
    fn what_was_found_is_found_again() {
        let folder = folder("found");
        let (link, socket) = (folder.join("link"), folder.join("socket"));
        let _listener = UnixListener::bind(&socket).expect("a socket");
        std::os::unix::fs::symlink(&socket, &link).expect("a link");
        let found = Found::at(&link).expect("there");
        std::fs::remove_file(&link).expect("removed");
        assert_eq!(
            found.place().expect("there"),
            socket.canonicalize().expect("there")
        );
        std::os::unix::net::UnixStream::connect(found.handle()).expect("a listener");
        std::fs::remove_file(&socket).expect("removed");
        let gone = found.place().expect_err("it is gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn links_do_not_lead_to_the_agents_sockets() {
        let folder = folder("links");
        let agents = folder.join("etc/istio/proxy");
        std::fs::create_dir_all(&agents).expect("a folder");
        let socket = agents.join("SDS");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        std::os::unix::fs::symlink(&socket, folder.join("link")).expect("a link");
        std::os::unix::fs::symlink(&agents, folder.join("folder")).expect("a link");
        for path in [socket, folder.join("link"), folder.join("folder/SDS")] {
            let path = path.to_str().expect("text");
            let refused = connect(path).await.expect_err("refused");
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{path}");
            let refused = listen(&pipe(path, 0)).expect_err("refused");
            // A link at the place itself would be replaced, and is no socket.
            let reason = match path.ends_with("link") {
                true => ErrorKind::AlreadyExists,
                false => ErrorKind::PermissionDenied,
            };
            assert_eq!(refused.kind(), reason, "{path}");
        }
        let [link, real] = ["folder/a", "etc/./istio//proxy/a"].map(|at| {
            let path = folder.join(at);
            place(path.to_str().expect("text"))
        });
        assert_eq!(link, real);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn what_was_left_behind_keeps_nobody_out() {
        let name = format!("lateen-unix-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let path = path.to_str().expect("text");
        drop(listen(&pipe(path, 0)).expect("a socket"));
        assert!(connect(path).await.is_err(), "nobody listens");
        let again = listen(&pipe(path, 0o600)).expect("the path is free");
        let mode = std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(path).await.expect("a listener");
        drop(again);
        std::fs::remove_file(path).expect("it is there");
        let hidden = format!("@lateen-unix-{}", std::process::id());
        let _listener = listen(&pipe(&hidden, 0)).expect("a socket");
        connect(&hidden).await.expect("a listener");
        assert!(!std::path::Path::new(&hidden).exists());
        assert!(listen(&pipe(&format!("/{}", "a".repeat(200)), 0)).is_err());
    }
}
