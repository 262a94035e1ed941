//! Namespaces held by file descriptors, made and entered on threads of their own.
//!
//! A thread may leave the network, UTS and (for its children) pid namespace of its process; what it opens
//! or starts there stays there. So no helper process is needed to keep a pod's namespaces alive.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

use crate::Error;
use crate::container::OwnUsers;

/// The namespaces that the containers of one pod share.
#[derive(Debug)]
pub(crate) struct PodNamespaces {
    pub(crate) net: OwnedFd,
    pub(crate) uts: OwnedFd,
    /// Where the pod has users of its own, whose both then are.
    pub(crate) users: Option<OwnUsers>,
}

impl PodNamespaces {
    /// Makes both, with `hostname` set, as namespaces of the pod's own users, and runs `then` inside them.
    pub(crate) async fn create_owned<T, F>(
        (users, net, uts): (OwnUsers, OwnedFd, OwnedFd),
        hostname: String,
        then: F,
    ) -> Result<(Self, T), Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let users = Some(users);
        let this = Self { net, uts, users };
        on_thread(move || {
            this.enter()?;
            nix::unistd::sethostname(&hostname).map_err(Error::sys("set the pod's host name"))?;
            let value = then()?;
            Ok((this, value))
        })
        .await
    }

    /// Makes both, with `hostname` set, and runs `then` inside them.
    pub(crate) async fn create<T, F>(hostname: String, then: F) -> Result<(Self, T), Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)
                .map_err(Error::sys("unshare the pod's namespaces"))?;
            nix::unistd::sethostname(&hostname).map_err(Error::sys("set the pod's host name"))?;
            let this = Self {
                net: open("net")?,
                uts: open("uts")?,
                users: None,
            };
            let value = then()?;
            Ok((this, value))
        })
        .await
    }

    /// Enters both with the calling thread, which must end afterwards.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(Error::sys("enter the pod's network namespace"))?;
        setns(self.uts.as_fd(), CloneFlags::CLONE_NEWUTS)
            .map_err(Error::sys("enter the pod's UTS namespace"))
    }
}

/// The network namespace of the calling thread.
pub(crate) fn current_net() -> Result<OwnedFd, Error> {
    open("net")
}

/// Runs `f` on a thread that ends with it, so that it may change namespaces.
pub(crate) async fn on_thread<T, F>(f: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let (value_tx, value_rx) = oneshot::channel();
    thread::Builder::new()
        .name("namespace".into())
        .spawn(move || value_tx.send(f()))
        .map_err(Error::io("start a thread"))?;
    let panicked = |_| Err(Error::Container("a namespace thread panicked".into()));
    value_rx.await.unwrap_or_else(panicked)
}

fn open(kind: &str) -> Result<OwnedFd, Error> {
    let path = format!("/proc/thread-self/ns/{kind}");
    Ok(File::open(&path).map_err(Error::io(path))?.into())
}
