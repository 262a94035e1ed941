//! What the fuzz targets do with their input; a test of the HTTP engine replays their corpora through
//! the same.

mod h1;
mod h2;
mod hpack;

pub use h1::{client as h1_client, server as h1_server};
pub use h2::{client as h2_client, server as h2_server};
pub use hpack::decode as hpack_decode;
