//! Bytes: as many as a client asks for, or as many as it has.

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The client sends; it gets one byte when all has arrived.
pub(crate) const UPLOAD: u8 = b'U';
/// The client receives.
pub(crate) const DOWNLOAD: u8 = b'D';
/// One read or write.
pub(crate) const CHUNK: usize = 256 * 1024;

pub(super) async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let kind = match stream.read_u8().await {
            Ok(kind) => kind,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let length = stream.read_u64().await?;
        match kind {
            UPLOAD => {
                receive(&mut stream, length, &mut buffer).await?;
                stream.write_u8(UPLOAD).await?;
            }
            DOWNLOAD => send(&mut stream, length, &buffer).await?,
            other => bail!("asked for {other}"),
        }
    }
}

/// Receives `length` bytes.
pub(crate) async fn receive(stream: &mut TcpStream, length: u64, buffer: &mut [u8]) -> Result<()> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        ensure!(read > 0, "{left} bytes are missing");
        left -= read as u64;
    }
    Ok(())
}

/// Sends `length` bytes.
pub(crate) async fn send(stream: &mut TcpStream, length: u64, buffer: &[u8]) -> Result<()> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        stream.write_all(&buffer[..most]).await?;
        left -= most as u64;
    }
    Ok(())
}
