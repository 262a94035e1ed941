//! tcp-echo: each line comes back behind a word.

use std::num::ParseIntError;
use std::str::FromStr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{Error, serve};
use lateen_bookinfo::server;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TCP ports to listen on, with commas between them
    ports: Ports,
    /// What comes before each line
    #[arg(default_value = "")]
    prefix: String,
}

/// One argument, because another one follows it.
#[derive(Clone, Debug)]
struct Ports(Vec<u16>);

impl FromStr for Ports {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ports = text.split(',').map(str::trim).map(str::parse);
        ports.collect::<Result<_, _>>().map(Self)
    }
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let mut ports = JoinSet::new();
        for port in self.ports.0 {
            let listener = serve::listen(port).await?;
            ports.spawn(accept(listener, self.prefix.clone()));
        }
        server::terminated().await;
        Ok(())
    }
}

/// Serves every connection until the task is dropped.
pub(crate) async fn accept(listener: TcpListener, prefix: String) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let prefix = prefix.clone();
                tokio::spawn(async move {
                    if let Err(error) = echo(stream, &prefix).await {
                        tracing::info!(%client, %error, "the connection broke");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn echo(stream: TcpStream, prefix: &str) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return writer.shutdown().await;
        }
        tracing::info!(line = %String::from_utf8_lossy(&line).trim_end(), "received");
        let answer = match prefix {
            "" => line,
            prefix => [prefix.as_bytes(), b" ", &line].concat(),
        };
        writer.write_all(&answer).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn arguments_are_those_of_the_sample() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line = ["tcp-echo", "9000,9001", "one"];
        let args = <Line as clap::Parser>::try_parse_from(line).expect("valid");
        assert_eq!(args.args.ports.0, [9000, 9001]);
        assert_eq!(args.args.prefix, "one");
    }

    #[tokio::test]
    async fn lines_come_back_behind_the_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(accept(listener, "one".into()));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"a\nlast").await.expect("written");
        stream.shutdown().await.expect("closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert_eq!(answer, "one a\none last");
        server.abort();
    }
}
