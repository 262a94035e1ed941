//! Sockets in the file system, and in the abstract namespace (`@name`).

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
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

/// Refuses paths to which no configuration may lead, by themselves or over links.
fn check(path: &str) -> io::Result<()> {
    let links = Path::new(path).canonicalize().ok();
    let places = [Some(PathBuf::from(path)), Some(place(path)), links];
    let mut texts = places.iter().flatten().map(|of| of.to_string_lossy());
    match texts.find_map(|text| pipe::refusal(&text)) {
        Some(reason) => Err(io::Error::new(ErrorKind::PermissionDenied, reason)),
        None => Ok(()),
    }
}

/// Binds a listening socket at a path. A socket that is there already is replaced, as by Envoy: it
/// stays in the file system when its listener goes, and would keep the next one out. Any other file
/// stays.
pub(crate) fn listen(pipe: &Pipe) -> io::Result<UnixListener> {
    check(&pipe.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if pipe.path.starts_with('@') {
        socket.bind(&address(&pipe.path)?)?;
        socket.listen(BACKLOG)?;
        return Ok(socket.into());
    }
    leave_other_files(&pipe.path)?;
    // Nobody connects before the mode is set, and the old socket is there until the new one is.
    let beside = format!("{}~", pipe.path);
    leave_other_files(&beside)?;
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    socket.bind(&address(&beside)?)?;
    let placed = (|| {
        if pipe.mode != 0 {
            std::fs::set_permissions(&beside, PermissionsExt::from_mode(pipe.mode))?;
        }
        socket.listen(BACKLOG)?;
        std::fs::rename(&beside, &*pipe.path)
    })();
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    placed?;
    Ok(socket.into())
}

/// Refuses a path at which there is something that is no socket.
fn leave_other_files(path: &str) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let reason = format!("{path} is there and is no socket");
            Err(io::Error::new(ErrorKind::AlreadyExists, reason))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to whoever listens at a path.
pub(crate) async fn connect(path: &str) -> io::Result<tokio::net::UnixStream> {
    check(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The kernel answers at once, or has no room in the queue of the listener.
    socket.connect(&address(path)?)?;
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
        // Nothing is left of a socket whose path cannot be had.
        let _listener = listen(&pipe(&at("socket"), 0)).expect("a socket");
        assert!(!folder.join("socket~").exists());
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
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{path}");
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
