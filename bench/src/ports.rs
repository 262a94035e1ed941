//! Who listens where in the run's own network.

/// The backend: HTTP/1.1, HTTP/2 in plain text, bytes.
pub(crate) const BACKEND_H1: u16 = 9000;
pub(crate) const BACKEND_H2: u16 = 9001;
pub(crate) const BACKEND_TCP: u16 = 9002;
/// The control plane of our proxy.
pub(crate) const CONTROL: u16 = 9100;

/// The ports of one instance of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports(u16);

impl Ports {
    /// The ports of instance `index`.
    pub(crate) fn of(index: u16) -> Self {
        Ports(10_000 + 20 * index)
    }

    /// HTTP/1.1 in, HTTP/1.1 out.
    pub(crate) fn h1(self) -> u16 {
        self.0
    }

    /// HTTP/2 in plain text on both sides.
    pub(crate) fn h2(self) -> u16 {
        self.0 + 1
    }

    /// Mutual TLS in, HTTP/1.1 out.
    pub(crate) fn tls(self) -> u16 {
        self.0 + 2
    }

    /// Bytes.
    pub(crate) fn tcp(self) -> u16 {
        self.0 + 3
    }

    /// HTTP/1.1 in, mutual TLS out; the only one of an instance on the client's side.
    pub(crate) fn outbound(self) -> u16 {
        self.0 + 4
    }

    /// The recording backend of an instance that is compared.
    pub(crate) fn recorder(self) -> u16 {
        self.0 + 5
    }

    pub(crate) fn admin(self) -> u16 {
        self.0 + 10
    }

    pub(crate) fn status(self) -> u16 {
        self.0 + 11
    }

    pub(crate) fn ready(self) -> u16 {
        self.0 + 12
    }

    pub(crate) fn metrics(self) -> u16 {
        self.0 + 13
    }
}
