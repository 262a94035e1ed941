//! `ForwardEcho`: the server asks another one, as its client does, and tells what came.

use std::time::Duration;

use http::{Method, Uri};
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::client::{Ask, Header};
use super::proto::ForwardEchoRequest;

/// How long an answer may take where nothing is said.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// What came is held until all of it is there, so that it must not be without an end.
const COUNT_MAX: i32 = 10_000;
/// So must its length in bytes, which is what clients of gRPC take by default.
const LENGTH_MAX: usize = 4 << 20;
/// A second has no more nanoseconds.
const QPS_MAX: i32 = 1_000_000_000;

/// A text of each answer.
///
/// # Errors
/// Where what is asked for is not supported, or any of the answers is not there.
pub(super) async fn ask(request: ForwardEchoRequest) -> Result<Vec<String>, Status> {
    let count = match request.count {
        0 => 1,
        1..=COUNT_MAX => request.count,
        count => {
            let why = format!("count is {count}, and may be 1 to {COUNT_MAX}");
            return Err(Status::invalid_argument(why));
        }
    };
    let every = match request.qps {
        0 => None,
        1..=QPS_MAX => Some(Duration::from_secs(1) / request.qps.unsigned_abs()),
        qps => {
            let why = format!("qps is {qps}, and may be 1 to {QPS_MAX}");
            return Err(Status::invalid_argument(why));
        }
    };
    let asked = parse(request)?;
    let unsupported = |why| Status::unimplemented(format!("{}: {why}", asked.url));
    let mut connections = asked.connections().map_err(unsupported)?;
    let mut ticks = every.map(|every| {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let (mut output, mut faults, mut length) = (Vec::new(), Vec::new(), 0);
    for n in 0..count.unsigned_abs() as usize {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        match asked.ask(n, &mut connections).await {
            Ok(answer) => {
                length += answer.len();
                if length > LENGTH_MAX {
                    let why = format!("the answers are longer than {LENGTH_MAX} bytes");
                    return Err(Status::resource_exhausted(why));
                }
                output.push(answer);
            }
            Err(why) => faults.push(why),
        }
    }
    match faults.first() {
        None => Ok(output),
        Some(first) => Err(Status::unknown(format!(
            "{}: {} of {count} requests failed, the first with: {first}",
            asked.url,
            faults.len()
        ))),
    }
}

fn parse(request: ForwardEchoRequest) -> Result<Ask, Status> {
    if let Some(field) = request.unsupported() {
        let why = format!("{field} is not supported");
        return Err(Status::unimplemented(why));
    }
    // What has another scheme need not be a URI at all: `xds:///` names no authority.
    let scheme = request.url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("http" | "grpc")) {
        let why = format!("{:?}: only http:// and grpc:// are supported", request.url);
        return Err(Status::unimplemented(why));
    }
    let invalid = |field: &str, why: String| Status::invalid_argument(format!("{field}: {why}"));
    let url: Result<Uri, _> = request.url.parse();
    // What is left out is what the client has by default.
    let method = match request.method.as_str() {
        "" => Ok(Method::GET),
        method => method.parse(),
    };
    let headers = request.headers.iter();
    let headers = headers.map(|of| Header::new(&of.key, &of.value));
    let headers: Result<_, _> = headers.collect();
    let timeout = u64::try_from(request.timeout_micros);
    Ok(Ask {
        url: url.map_err(|why| invalid("url", format!("{:?}: {why}", request.url)))?,
        method: method.map_err(|why| invalid("method", why.to_string()))?,
        headers: headers.map_err(|why| invalid("headers", why))?,
        timeout: match timeout.map_err(|why| invalid("timeout_micros", why.to_string()))? {
            0 => TIMEOUT,
            micros => Duration::from_micros(micros),
        },
        message: request.message,
        keeps_connection: !request.new_connection_per_request,
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::Code;

    use super::super::proto::Header as ProtoHeader;
    use super::super::testing::serve;
    use super::super::{grpc, http};
    use super::*;

    fn to(url: String) -> ForwardEchoRequest {
        ForwardEchoRequest {
            url,
            ..ForwardEchoRequest::default()
        }
    }

    #[tokio::test]
    async fn what_others_answer_is_told_as_often_as_it_came() {
        let port = serve(grpc::router).await;
        for new_connection_per_request in [false, true] {
            let request = ForwardEchoRequest {
                count: 3,
                message: "hi".into(),
                new_connection_per_request,
                ..to(format!("grpc://127.0.0.1:{port}"))
            };
            let output = ask(request).await.expect("answered");
            assert_eq!(output.len(), 3);
            for (n, text) in output.iter().enumerate() {
                assert!(text.contains(&format!("[{n} body] Hostname=echo-1\n")));
                assert!(text.contains(&format!("[{n} body] Echo=hi\n")), "{text}");
            }
        }
        let port = serve(http::router).await;
        let request = ForwardEchoRequest {
            method: "PUT".into(),
            headers: vec![ProtoHeader {
                key: "x-id".into(),
                value: "7".into(),
            }],
            ..to(format!("http://127.0.0.1:{port}/a"))
        };
        let output = ask(request).await.expect("answered").concat();
        assert!(output.contains("[0 body] Method=PUT\n"), "{output}");
        assert!(output.contains("[0 body] RequestHeader=x-id:7\n"));
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_refused() {
        let check = async |request: ForwardEchoRequest, code: Code, why: &str| {
            let refused = ask(request).await.expect_err(why);
            assert_eq!(refused.code(), code, "{refused}");
            assert!(refused.message().contains(why), "{refused}");
        };
        let xds = "xds:///echo.echo-grpc.svc.cluster.local:7070";
        check(to(xds.into()), Code::Unimplemented, "are supported").await;
        let many = ForwardEchoRequest {
            count: COUNT_MAX + 1,
            ..to("http://a/".into())
        };
        check(many, Code::InvalidArgument, "count").await;
        let fast = ForwardEchoRequest {
            qps: i32::MAX,
            ..to("http://a/".into())
        };
        check(fast, Code::InvalidArgument, "qps").await;
        let port = serve(grpc::router).await;
        let long = ForwardEchoRequest {
            count: 99,
            message: "a".repeat(1 << 16),
            ..to(format!("grpc://127.0.0.1:{port}"))
        };
        check(long, Code::ResourceExhausted, "longer than").await;
        let http3 = ForwardEchoRequest {
            http3: true,
            ..to("http://a/".into())
        };
        check(http3, Code::Unimplemented, "http3").await;
        // Nobody listens there.
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = closed.local_addr().expect("bound").port();
        drop(closed);
        let nobody = ForwardEchoRequest {
            count: 2,
            ..to(format!("http://127.0.0.1:{port}/"))
        };
        check(nobody, Code::Unknown, "2 of 2 requests failed").await;
    }
}
