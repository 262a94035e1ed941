//! The messages of `proto.EchoTestService`, and their description for clients that have none.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto,
    ServiceDescriptorProto,
};

/// What [`file`] is called.
pub(super) const FILE: &str = "echo.proto";
/// The package of everything in it.
pub(super) const PACKAGE: &str = "proto";
/// The service, with its package.
pub(super) const SERVICE: &str = "proto.EchoTestService";

/// What is asked of `Echo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EchoRequest {
    #[prost(string, tag = "1")]
    pub(super) message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EchoResponse {
    #[prost(string, tag = "1")]
    pub(super) message: String,
}

/// A header, or a metadata entry.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// What is asked of `ForwardEcho`: to ask another server, and to say what came.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ForwardEchoRequest {
    /// How often to ask; once where it is 0.
    #[prost(int32, tag = "1")]
    pub(super) count: i32,
    /// How often in a second at most; 0 for as fast as it goes.
    #[prost(int32, tag = "2")]
    pub(super) qps: i32,
    /// Microseconds until an answer must be there; 0 for [`super::forward::TIMEOUT`].
    #[prost(int64, tag = "3")]
    pub(super) timeout_micros: i64,
    #[prost(string, tag = "4")]
    pub(super) url: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers: Vec<Header>,
    #[prost(string, tag = "6")]
    pub(super) message: String,
    /// The method of HTTP requests.
    #[prost(string, tag = "9")]
    pub(super) method: String,
    /// Each request has a connection of its own.
    #[prost(bool, tag = "22")]
    pub(super) new_connection_per_request: bool,
    // From here on what is not supported, so that it is refused and not passed over. What would be a
    // message is read as its bytes.
    #[prost(bool, tag = "7")]
    pub(super) http2: bool,
    #[prost(bool, tag = "8")]
    pub(super) server_first: bool,
    #[prost(string, tag = "10")]
    pub(super) cert: String,
    #[prost(string, tag = "11")]
    pub(super) key: String,
    #[prost(string, tag = "12")]
    pub(super) ca_cert: String,
    #[prost(bytes = "vec", optional, tag = "13")]
    pub(super) alpn: Option<Vec<u8>>,
    #[prost(bool, tag = "14")]
    pub(super) follow_redirects: bool,
    #[prost(bool, tag = "15")]
    pub(super) http3: bool,
    #[prost(string, tag = "16")]
    pub(super) cert_file: String,
    #[prost(string, tag = "17")]
    pub(super) key_file: String,
    #[prost(string, tag = "18")]
    pub(super) ca_cert_file: String,
    #[prost(bool, tag = "19")]
    pub(super) insecure_skip_verify: bool,
    #[prost(string, tag = "20")]
    pub(super) server_name: String,
    #[prost(bytes = "vec", optional, tag = "21")]
    pub(super) expected_response: Option<Vec<u8>>,
    #[prost(bool, tag = "23")]
    pub(super) force_dns_lookup: bool,
    #[prost(bytes = "vec", optional, tag = "24")]
    pub(super) hbone: Option<Vec<u8>>,
    #[prost(int32, tag = "25")]
    pub(super) proxy_protocol_version: i32,
    #[prost(string, tag = "26")]
    pub(super) force_ip_family: String,
    #[prost(bytes = "vec", optional, tag = "27")]
    pub(super) double_hbone: Option<Vec<u8>>,
}

/// What came, a text for each time.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ForwardEchoResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) output: Vec<String>,
}

impl ForwardEchoRequest {
    /// A field that is set and that nothing acts on.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let of_text = |text: &str| !text.is_empty();
        let set = [
            ("http2", self.http2),
            ("http3", self.http3),
            ("serverFirst", self.server_first),
            ("followRedirects", self.follow_redirects),
            ("cert", of_text(&self.cert)),
            ("key", of_text(&self.key)),
            ("caCert", of_text(&self.ca_cert)),
            ("certFile", of_text(&self.cert_file)),
            ("keyFile", of_text(&self.key_file)),
            ("caCertFile", of_text(&self.ca_cert_file)),
            ("insecureSkipVerify", self.insecure_skip_verify),
            ("alpn", self.alpn.is_some()),
            ("serverName", of_text(&self.server_name)),
            ("expectedResponse", self.expected_response.is_some()),
            ("forceDNSLookup", self.force_dns_lookup),
            ("hbone", self.hbone.is_some()),
            ("double_hbone", self.double_hbone.is_some()),
            ("proxyProtocolVersion", self.proxy_protocol_version != 0),
            ("force_ip_family", of_text(&self.force_ip_family)),
        ];
        set.into_iter().find(|(_, is_set)| *is_set).map(|of| of.0)
    }
}

/// The description of the service and of what of its messages is supported.
pub(super) fn file() -> FileDescriptorProto {
    let text = (Label::Optional, Type::String, None);
    let number = |kind| (Label::Optional, kind, None);
    let forward = [
        ("count", 1, number(Type::Int32)),
        ("qps", 2, number(Type::Int32)),
        ("timeout_micros", 3, number(Type::Int64)),
        ("url", 4, text),
        (
            "headers",
            5,
            (Label::Repeated, Type::Message, Some("Header")),
        ),
        ("message", 6, text),
        ("method", 9, text),
        ("newConnectionPerRequest", 22, number(Type::Bool)),
    ];
    let output = (Label::Repeated, Type::String, None);
    FileDescriptorProto {
        name: Some(FILE.into()),
        package: Some(PACKAGE.into()),
        syntax: Some("proto3".into()),
        message_type: vec![
            message("EchoRequest", &[("message", 1, text)]),
            message("EchoResponse", &[("message", 1, text)]),
            message("Header", &[("key", 1, text), ("value", 2, text)]),
            message("ForwardEchoRequest", &forward),
            message("ForwardEchoResponse", &[("output", 1, output)]),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some(SERVICE.trim_start_matches("proto.").into()),
            method: vec![method("Echo"), method("ForwardEcho")],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}

/// A field: its name, its number and what it holds.
type Field<'a> = (&'a str, i32, (Label, Type, Option<&'a str>));

fn message(name: &str, fields: &[Field<'_>]) -> DescriptorProto {
    let field = |&(name, number, (label, kind, of)): &Field<'_>| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name: of.map(in_full),
        ..FieldDescriptorProto::default()
    };
    DescriptorProto {
        name: Some(name.into()),
        field: fields.iter().map(field).collect(),
        ..DescriptorProto::default()
    }
}

/// A method takes and gives what is called as it is.
fn method(name: &str) -> MethodDescriptorProto {
    MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(in_full(&format!("{name}Request"))),
        output_type: Some(in_full(&format!("{name}Response"))),
        ..MethodDescriptorProto::default()
    }
}

fn in_full(message: &str) -> String {
    format!(".{PACKAGE}.{message}")
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_described_is_what_is_read() {
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file()).expect("consistent");
        let of = pool.get_message_by_name("proto.ForwardEchoRequest");
        let asked = json!({
            "count": 2, "qps": 3, "timeoutMicros": "4", "url": "grpc://a:1",
            "headers": [{"key": "k", "value": "v"}], "message": "m", "method": "PUT",
            "newConnectionPerRequest": true,
        });
        let message = DynamicMessage::deserialize(of.expect("a message"), &asked);
        let bytes = message.expect("all fields are known").encode_to_vec();
        let expect = ForwardEchoRequest {
            count: 2,
            qps: 3,
            timeout_micros: 4,
            url: "grpc://a:1".into(),
            headers: vec![Header {
                key: "k".into(),
                value: "v".into(),
            }],
            message: "m".into(),
            method: "PUT".into(),
            new_connection_per_request: true,
            ..ForwardEchoRequest::default()
        };
        let read = ForwardEchoRequest::decode(&*bytes).expect("a message");
        assert_eq!(read, expect);
        assert_eq!(read.unsupported(), None);
        let service = pool.get_service_by_name(SERVICE).expect("a service");
        let methods = service.methods();
        let methods = methods.map(|of| (of.name().to_owned(), of.input().name().to_owned()));
        assert_eq!(
            methods.collect::<Vec<_>>(),
            [
                ("Echo", "EchoRequest"),
                ("ForwardEcho", "ForwardEchoRequest")
            ]
            .map(|(name, input)| (name.to_owned(), input.to_owned()))
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let tunnel = ForwardEchoRequest {
            hbone: Some(Vec::new()),
            ..ForwardEchoRequest::default()
        };
        assert_eq!(tunnel.unsupported(), Some("hbone"));
    }
}
