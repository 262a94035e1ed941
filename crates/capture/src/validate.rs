//! A check that the rules do what they are for, made by a connection.
//!
//! The connection goes from a socket of the proxy's to a loop-back address that is not 127.0.0.1,
//! which the rules lead to the inbound port. It needs no route and no other machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::{Config, Error, original_dst};

const PROBE_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// Checks that the rules of `config` are in force, by a connection to `probe_port`.
///
/// # Errors
/// If they are not, or if the check cannot be made (the inbound port is in use, say).
pub fn validate(config: &Config, probe_port: u16, timeout: Duration) -> Result<(), Error> {
    let dialled = SocketAddr::from((PROBE_ADDRESS, probe_port));
    let failed = |action: String| move |source| Error::Check { action, source };
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.inbound_port));
    let listener = TcpListener::bind(address).map_err(failed(format!("listen on {address}")))?;
    let client = client_socket(config).map_err(failed("open a socket".to_owned()))?;
    if let Err(error) = client.connect_timeout(&dialled.into(), timeout) {
        return Err(Error::NotCaptured {
            dialled,
            outcome: format!("failed: {error}"),
        });
    }
    // The kernel has completed the connection, so it is there to be accepted.
    listener
        .set_nonblocking(true)
        .map_err(failed("wait".to_owned()))?;
    let (accepted, _) = listener.accept().map_err(|_| Error::NotCaptured {
        dialled,
        outcome: "reached something else".to_owned(),
    })?;
    let original = original_dst(&accepted).map_err(failed("ask for the destination".to_owned()))?;
    if original == dialled {
        Ok(())
    } else {
        Err(Error::NotCaptured {
            dialled,
            outcome: format!("was taken for one to {original}"),
        })
    }
}

/// A socket that the rules take for the proxy's. Marking needs CAP_NET_ADMIN; whoever lacks it is
/// recognised if it runs as the proxy's user.
fn client_socket(config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(mark) = config.proxy_mark {
        let _ = socket.set_mark(mark);
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}
