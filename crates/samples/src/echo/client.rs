//! `client`, which is beside the echo server in its image: asks from within a pod, and says what came.

use std::io::Write as _;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::grpc::ECHO;
use super::proto::{EchoRequest, EchoResponse};
use crate::Error;

/// Answers beyond this are a fault.
const MAX_BODY: usize = 16 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask: http://HOST[:PORT]/PATH or grpc://HOST:PORT
    url: Uri,
    /// The method of HTTP requests
    #[arg(long, default_value_t = Method::GET)]
    method: Method,
    /// A header as NAME:VALUE; `Host` says which host is asked for
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = Header::from_str)]
    headers: Vec<Header>,
    /// How often to ask, one after the other
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Seconds until an answer must be there
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    /// What a gRPC server shall say back
    #[arg(long, default_value = "HelloWorld")]
    msg: String,
}

/// A header of a request.
#[derive(Clone, Debug)]
pub(super) struct Header(HeaderName, HeaderValue);

impl Header {
    pub(super) fn new(name: &str, value: &str) -> Result<Header, String> {
        let name = name.parse().map_err(|_| format!("{name:?} is no name"))?;
        let value = value.trim().parse();
        let value = value.map_err(|_| "the value is not of visible characters")?;
        Ok(Header(name, value))
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("not of the form NAME:VALUE")?;
        Header::new(name, value)
    }
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let (url, count) = (self.url.to_string(), self.count);
        let asked = self.into_ask().ask_all(count).await;
        asked.map_err(|why| Error::NoAnswer(url, why))
    }

    fn into_ask(self) -> Ask {
        Ask {
            url: self.url,
            method: self.method,
            headers: self.headers,
            timeout: Duration::from_secs(self.timeout),
            message: self.msg,
            keeps_connection: true,
        }
    }
}

/// What is asked, of whom.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) url: Uri,
    /// Of HTTP requests.
    pub(super) method: Method,
    pub(super) headers: Vec<Header>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// What a gRPC server shall say back.
    pub(super) message: String,
    /// One connection serves all requests, where it lasts.
    pub(super) keeps_connection: bool,
}

/// What connections are kept in from one request to the next.
pub(super) enum Connections {
    Http(Box<Client<HttpConnector, Body>>),
    Grpc(Option<Channel>),
}

impl Ask {
    async fn ask_all(&self, count: usize) -> Result<(), String> {
        let mut connections = self.connections()?;
        for n in 0..count {
            let answer = self.ask(n, &mut connections).await?;
            let written = std::io::stdout().write_all(answer.as_bytes());
            written.map_err(all_of)?;
        }
        Ok(())
    }

    /// For [`Ask::ask`]; an error where the scheme is not supported.
    pub(super) fn connections(&self) -> Result<Connections, String> {
        match self.url.scheme_str() {
            Some("http") => {
                let mut client = Client::builder(TokioExecutor::new());
                if !self.keeps_connection {
                    client.pool_max_idle_per_host(0);
                }
                Ok(Connections::Http(Box::new(client.build_http())))
            }
            Some("grpc") => Ok(Connections::Grpc(None)),
            _ => Err("only http:// and grpc:// are supported".into()),
        }
    }

    /// Asks for the `n`th time: what came, as text.
    pub(super) async fn ask(
        &self,
        n: usize,
        connections: &mut Connections,
    ) -> Result<String, String> {
        let answer = async {
            match connections {
                Connections::Http(client) => self.ask_http(n, client).await,
                Connections::Grpc(kept) => self.ask_grpc(n, kept).await,
            }
        };
        let answer = tokio::time::timeout(self.timeout, answer).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
    }

    /// Redirects are not followed.
    async fn ask_http(
        &self,
        n: usize,
        client: &Client<HttpConnector, Body>,
    ) -> Result<String, String> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        for Header(name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        let answer = client.request(request).await.map_err(all_of)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| all_of(&*error))?.to_bytes();
        Ok(describe(
            n,
            &self.url,
            head.status.as_u16(),
            &head.headers,
            &body,
        ))
    }

    async fn connect(&self) -> Result<Channel, String> {
        let mut parts = self.url.clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let origin = Uri::from_parts(parts).map_err(all_of)?;
        Endpoint::from(origin).connect().await.map_err(all_of)
    }

    async fn ask_grpc(&self, n: usize, kept: &mut Option<Channel>) -> Result<String, String> {
        let channel = match kept.take() {
            Some(channel) => channel,
            None => self.connect().await?,
        };
        if self.keeps_connection {
            *kept = Some(channel.clone());
        }
        let mut service = tonic::client::Grpc::new(channel);
        service.ready().await.map_err(all_of)?;
        let mut request = tonic::Request::new(EchoRequest {
            message: self.message.clone(),
        });
        let metadata = self.headers.iter().cloned();
        let metadata = metadata.map(|Header(name, value)| (name, value)).collect();
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(metadata);
        let codec = ProstCodec::<EchoRequest, EchoResponse>::default();
        let path = http::uri::PathAndQuery::from_static(ECHO);
        let answer = service.unary(request, path, codec).await;
        let (metadata, answer, _) = answer.map_err(|status| status.to_string())?.into_parts();
        // An answer with another status of HTTP would be none.
        let headers = metadata.into_headers();
        Ok(describe(
            n,
            &self.url,
            200,
            &headers,
            answer.message.as_bytes(),
        ))
    }
}

/// The answer as lines under the names that the mesh's tests look for, and an empty one at the end.
fn describe(n: usize, url: &Uri, status: u16, headers: &HeaderMap, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "[{n}] Url={url}");
    let _ = writeln!(text, "[{n}] StatusCode={status}");
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = writeln!(text, "[{n}] ResponseHeader={name}:{value}");
    }
    for line in String::from_utf8_lossy(body).lines() {
        let _ = writeln!(text, "[{n} body] {line}");
    }
    text + "\n"
}

/// An error with what led to it: the last part says most.
fn all_of(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::testing::serve;
    use super::super::{grpc, http};
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn asked(words: &[&str]) -> Ask {
        let words = ["client"].iter().chain(words);
        let line = Line::try_parse_from(words).expect("arguments");
        line.args.into_ask()
    }

    #[tokio::test]
    async fn http_answers_are_told_by_line() {
        let port = serve(http::router).await;
        let url = format!("http://127.0.0.1:{port}/a");
        let asked = asked(&[&url, "--method=PUT", "-H", "host:web", "-H", "x-id:7"]);
        let mut connections = asked.connections().expect("supported");
        let text = asked.ask(3, &mut connections).await.expect("answered");
        for line in [
            "[3] StatusCode=200\n",
            "[3] ResponseHeader=content-type:text/plain; charset=utf-8\n",
            "[3 body] Host=web\n",
            "[3 body] Method=PUT\n",
            "[3 body] RequestHeader=x-id:7\n",
            "[3 body] Hostname=echo-1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("\n\n"), "{text}");
    }

    #[tokio::test]
    async fn grpc_answers_are_told_by_line() {
        let port = serve(grpc::router).await;
        let asked = asked(&[&format!("grpc://127.0.0.1:{port}"), "--msg", "hi"]);
        let mut connections = asked.connections().expect("supported");
        let text = asked.ask(0, &mut connections).await.expect("answered");
        for line in [
            "[0] StatusCode=200\n",
            "[0 body] Echo=hi\n",
            "[0 body] Hostname=echo-1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[tokio::test]
    async fn other_schemes_are_refused() {
        let refused = asked(&["ftp://a/"]).ask_all(1).await;
        assert_eq!(
            refused,
            Err("only http:// and grpc:// are supported".into())
        );
    }
}
