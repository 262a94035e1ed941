//! Sockets in the file system, and in the abstract namespace (`@name`).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

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

/// Binds a listening socket at a path. What is there already is taken away, as Envoy does: a socket
/// stays in the file system when its listener goes, and would keep the next one out.
pub(crate) fn listen(pipe: &Pipe) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let is_abstract = pipe.path.starts_with('@');
    if !is_abstract {
        // Where it cannot be removed, binding says why.
        let _ = std::fs::remove_file(&*pipe.path);
    }
    socket.bind(&address(&pipe.path)?)?;
    if pipe.mode != 0 {
        std::fs::set_permissions(&*pipe.path, PermissionsExt::from_mode(pipe.mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to whoever listens at a path.
pub(crate) async fn connect(path: &str) -> io::Result<tokio::net::UnixStream> {
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
