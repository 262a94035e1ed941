//! Server reflection: clients like `grpcurl` ask a server what it has, and how its messages look.
//!
//! `grpc.reflection.v1` and `v1alpha` differ in their names alone.

use axum::extract::Request;
use axum::response::Response;
use prost::Message;
use prost_types::FileDescriptorProto;
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Response as Answer, Status, Streaming};
use tonic_prost::ProstCodec;

use super::proto;

/// Where it is asked.
pub(super) const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "About", tags = "3, 4, 5, 6, 7")]
    about: Option<About>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum About {
    /// A file by its name.
    #[prost(string, tag = "3")]
    File(String),
    /// The file that describes a service, a method, a message or a field.
    #[prost(string, tag = "4")]
    Symbol(String),
    #[prost(message, tag = "5")]
    Extension(Extension),
    /// The numbers of extensions of a message.
    #[prost(string, tag = "6")]
    Extensions(String),
    #[prost(string, tag = "7")]
    Services(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(string, tag = "1")]
    of: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    question: Option<Question>,
    #[prost(oneof = "Told", tags = "4, 5, 6, 7")]
    told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Told {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "5")]
    Extensions(Extensions),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Fault(Fault),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    /// Each a `FileDescriptorProto`.
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extensions {
    #[prost(string, tag = "1")]
    of: String,
    #[prost(int32, repeated, tag = "2")]
    numbers: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Fault {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Answers each question of a stream.
pub(super) async fn info(request: Request) -> Response {
    let codec = ProstCodec::<Reply, Question>::default();
    let response = Grpc::new(codec).streaming(Reflection, request).await;
    response.map(axum::body::Body::new)
}

struct Reflection;

impl StreamingService<Question> for Reflection {
    type Response = Reply;
    type ResponseStream = Box<dyn Stream<Item = Result<Reply, Status>> + Send + Unpin>;
    type Future = BoxFuture<Answer<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<Question>>) -> Self::Future {
        Box::pin(async move {
            let questions = request.into_inner();
            let replies = questions.map(|question| question.map(reply));
            Ok(Answer::new(Box::new(replies) as Self::ResponseStream))
        })
    }
}

fn reply(question: Question) -> Reply {
    let file = proto::file();
    let whole = |file: &FileDescriptorProto| {
        Told::Files(Files {
            files: vec![file.encode_to_vec()],
        })
    };
    let told = match &question.about {
        Some(About::Services(_)) => Told::Services(Services {
            services: vec![Service {
                name: proto::SERVICE.into(),
            }],
        }),
        Some(About::File(name)) if name == proto::FILE => whole(&file),
        Some(About::Symbol(symbol)) if symbols(&file).any(|known| known == *symbol) => whole(&file),
        Some(About::Extensions(of)) if symbols(&file).any(|known| known == *of) => {
            Told::Extensions(Extensions {
                of: of.clone(),
                numbers: Vec::new(),
            })
        }
        Some(About::File(name) | About::Symbol(name) | About::Extensions(name)) => {
            fault(Code::NotFound, format!("{name} is not known here"))
        }
        Some(About::Extension(Extension { of, number })) => {
            fault(Code::NotFound, format!("{of} has no extension {number}"))
        }
        None => fault(Code::InvalidArgument, "nothing is asked".into()),
    };
    Reply {
        host: question.host.clone(),
        question: Some(question),
        told: Some(told),
    }
}

fn fault(code: Code, message: String) -> Told {
    let code = code.into();
    Told::Fault(Fault { code, message })
}

/// What a file describes, each with the package in front.
fn symbols(file: &FileDescriptorProto) -> impl Iterator<Item = String> {
    let messages = file.message_type.iter().flat_map(|message| {
        let fields = message.field.iter().map(|field| field.name());
        std::iter::once(message.name().to_owned())
            .chain(fields.map(|field| format!("{}.{field}", message.name())))
    });
    let services = file.service.iter().flat_map(|service| {
        let methods = service.method.iter().map(|method| method.name());
        std::iter::once(service.name().to_owned())
            .chain(methods.map(|method| format!("{}.{method}", service.name())))
    });
    let all = messages.chain(services);
    all.map(|name| format!("{}.{name}", proto::PACKAGE))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::super::{Who, grpc};
    use super::*;

    /// A message as gRPC frames it.
    fn framed(message: &impl Message) -> Vec<u8> {
        let payload = message.encode_to_vec();
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[0][..], &length, &payload].concat()
    }

    #[tokio::test]
    async fn both_versions_answer_question_after_question() {
        let server = grpc::router(Who {
            version: String::new(),
            cluster: String::new(),
            hostname: String::new(),
            port: 7070,
        });
        let questions = [
            About::Services(String::new()),
            About::Symbol(proto::SERVICE.into()),
        ];
        let questions = questions.map(|about| Question {
            host: String::new(),
            about: Some(about),
        });
        let asked: Vec<u8> = questions.iter().flat_map(framed).collect();
        let expect: Vec<u8> = questions
            .into_iter()
            .map(reply)
            .flat_map(|of| framed(&of))
            .collect();
        for path in PATHS {
            let request = Request::post(path)
                .header("content-type", "application/grpc")
                .body(Body::from(asked.clone()))
                .expect("valid");
            let response = server.clone().oneshot(request).await.expect("answered");
            let body = response.into_body().collect().await.expect("whole");
            assert_eq!(body.to_bytes(), Bytes::from(expect.clone()), "{path}");
        }
    }

    fn told(about: About) -> Told {
        let question = Question {
            host: "echo".into(),
            about: Some(about),
        };
        let reply = reply(question.clone());
        assert_eq!((&*reply.host, reply.question), ("echo", Some(question)));
        reply.told.expect("an answer")
    }

    #[test]
    fn everything_that_is_described_is_found() {
        for symbol in [
            "proto.EchoTestService",
            "proto.EchoTestService.ForwardEcho",
            "proto.ForwardEchoRequest",
            "proto.ForwardEchoRequest.url",
        ] {
            let Told::Files(files) = told(About::Symbol(symbol.into())) else {
                panic!("{symbol} is not found");
            };
            let file = FileDescriptorProto::decode(&*files.files[0]).expect("a file");
            assert_eq!(file, proto::file());
        }
        let by_name = told(About::File("echo.proto".into()));
        assert!(matches!(by_name, Told::Files(_)), "{by_name:?}");
        let services = told(About::Services("*".into()));
        let Told::Services(Services { services }) = services else {
            panic!("{services:?}");
        };
        assert_eq!(services[0].name, "proto.EchoTestService");
        let of = || "proto.EchoRequest".to_owned();
        let extensions = Told::Extensions(Extensions {
            of: of(),
            numbers: Vec::new(),
        });
        assert_eq!(told(About::Extensions(of())), extensions);
    }

    #[test]
    fn what_is_not_known_is_said_to_be_absent() {
        let extension = Extension {
            of: "proto.EchoRequest".into(),
            number: 7,
        };
        for about in [
            About::Symbol("proto.Other".into()),
            About::File("other.proto".into()),
            About::Extensions("proto.Other".into()),
            About::Extension(extension),
        ] {
            let told = told(about);
            let Told::Fault(fault) = &told else {
                panic!("{told:?}");
            };
            assert_eq!(fault.code, i32::from(Code::NotFound));
        }
    }
}
