//! What a connection is allowed and offers.

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We open streams.
    Client,
    /// We answer them.
    Server,
}

/// Limits and settings of one connection.
#[derive(Debug, Clone)]
pub struct Config {
    /// Streams that the peer may have open at once; more are refused. 1024 is what Istio has Envoy
    /// announce for lack of another figure.
    pub max_concurrent_streams: u32,
    /// Bytes that a stream's sender may send before we give back; the start of a window that grows.
    pub initial_window: u32,
    /// Up to where a stream's window grows while the application keeps up: Envoy's default of
    /// `initial_stream_window_size`, 16 MiB.
    pub max_window: u32,
    /// The same for the connection as a whole, at its start.
    pub connection_window: u32,
    /// Up to where the connection's window grows: Envoy's default of
    /// `initial_connection_window_size`, 24 MiB.
    pub max_connection_window: u32,
    /// The largest frame that we take, 2¹⁴ to 2²⁴ − 1 bytes.
    pub max_frame_size: u32,
    /// The largest head, counted as the sum of names and values and 32 for each field: Envoy's
    /// default of `max_request_headers_kb`, 60 KiB. A larger request is answered by 431; any other
    /// message is reset.
    pub max_head_bytes: u32,
    /// The most fields in a head, cookie crumbs apart: Envoy's default of `max_headers_count`.
    pub max_fields: u32,
    /// The dynamic table that the peer's encoder may use.
    pub header_table_size: u32,
    /// A server takes extended CONNECT (RFC 8441), by which WebSocket travels.
    pub enable_connect_protocol: bool,
    /// Bytes that wait for a stream's window before its sender must wait.
    pub stream_queue: usize,
    /// The same over all streams. Beyond it, each stream keeps a quarter of its share.
    pub connection_queue: usize,
    /// Strings are sent with Huffman code where this makes them shorter.
    pub huffman: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_concurrent_streams: 1024,
            initial_window: 256 * 1024,
            max_window: 16 * 1024 * 1024,
            connection_window: 1024 * 1024,
            max_connection_window: 24 * 1024 * 1024,
            max_frame_size: 16_384,
            max_head_bytes: 60 * 1024,
            max_fields: 100,
            header_table_size: 4096,
            enable_connect_protocol: true,
            stream_queue: 64 * 1024,
            connection_queue: 1024 * 1024,
            huffman: false,
        }
    }
}

impl Config {
    /// The same with what the protocol does not allow cut to what it allows.
    pub(super) fn bounded(mut self) -> Self {
        let most = i32::MAX as u32;
        self.max_frame_size = self.max_frame_size.clamp(1 << 14, (1 << 24) - 1);
        self.initial_window = self.initial_window.clamp(1, most);
        self.max_window = self.max_window.clamp(self.initial_window, most);
        self.connection_window = self.connection_window.clamp(super::window::DEFAULT, most);
        self.max_connection_window = self
            .max_connection_window
            .clamp(self.connection_window, most);
        self
    }
}
