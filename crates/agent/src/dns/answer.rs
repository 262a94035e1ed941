//! Queries, and what the mesh says to them.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::table::{Found, Table};

/// Seconds that an answer may be kept, as from Istio's agent.
const TTL: u32 = 30;
/// What other resolvers may send us over UDP, as DNS Flag Day 2020 has it.
const PAYLOAD: u16 = 1232;
/// The bytes before the questions of a message.
const HEADER: usize = 12;

/// A query with one question, or one that is answered with an error at once.
pub(super) struct Query {
    bytes: Vec<u8>,
    message: Message,
    /// The name, in lower case, without a dot at the end.
    name: String,
}

/// What the mesh knows.
pub(super) enum Known {
    /// This is said.
    Answer(Box<Message>),
    /// The name is there, with addresses; of what else it has, others know.
    Exists,
    /// Nothing.
    Nothing,
}

impl Query {
    /// Reads a query; nothing for what is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Query> {
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let name = message.queries.first();
        let name = name.map(|question| question.name().to_ascii());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        Some(Query {
            bytes: bytes.to_vec(),
            name: name.trim_end_matches('.').to_owned(),
            message,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How long an answer over UDP may be.
    pub(super) fn room(&self) -> usize {
        usize::from(self.message.max_payload())
    }

    /// What the mesh says to it.
    pub(super) fn known(&self, table: &Table) -> Known {
        let [question] = &self.message.queries[..] else {
            return Known::Answer(Box::new(self.failed(ResponseCode::FormErr)));
        };
        if self.message.metadata.op_code != OpCode::Query {
            return Known::Answer(Box::new(self.failed(ResponseCode::NotImp)));
        }
        let Some(found) = table.find(&self.name) else {
            return Known::Nothing;
        };
        let kind = question.query_type();
        let is_address = matches!(kind, RecordType::A | RecordType::AAAA);
        if question.query_class() != DNSClass::IN || !is_address {
            return match found.meant {
                None => Known::Exists,
                Some(_) => Known::Nothing,
            };
        }
        match records(question, &found) {
            Some(records) => {
                let mut answer = self.answer();
                answer.metadata.authoritative = true;
                answer.add_answers(records);
                Known::Answer(Box::new(answer))
            }
            None => Known::Nothing,
        }
    }

    /// An answer that says no more than that.
    pub(super) fn failed(&self, code: ResponseCode) -> Message {
        let mut answer = self.answer();
        answer.metadata.response_code = code;
        answer
    }

    fn answer(&self) -> Message {
        let asked = &self.message.metadata;
        let mut answer = Message::response(asked.id, asked.op_code);
        answer.metadata.recursion_desired = asked.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_queries(self.message.queries.iter().cloned());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.set_edns(edns);
        }
        answer
    }
}

/// The addresses of the family that is asked for: none is an answer too, by which the client knows
/// that there are others.
fn records(question: &Question, found: &Found<'_>) -> Option<Vec<Record>> {
    let asked = question.name().clone();
    let mut records = Vec::new();
    let owner = match found.meant {
        None => asked,
        Some(meant) => {
            let meant = Name::from_ascii(format!("{meant}.")).ok()?;
            let alias = RData::CNAME(CNAME(meant.clone()));
            records.push(Record::from_rdata(asked, TTL, alias));
            meant
        }
    };
    let mut data: Vec<RData> = match question.query_type() {
        RecordType::A => found.host.v4.iter().map(|ip| RData::A(A(*ip))).collect(),
        _ => found
            .host
            .v6
            .iter()
            .map(|ip| RData::AAAA(AAAA(*ip)))
            .collect(),
    };
    // Clients that take the first one take each in turn.
    if !data.is_empty() {
        let first = fastrand::usize(..data.len());
        data.rotate_left(first);
    }
    let addresses = data.into_iter();
    records.extend(addresses.map(|data| Record::from_rdata(owner.clone(), TTL, data)));
    Some(records)
}

/// The bytes of an answer; where there is no room for it, that the client shall come by TCP.
pub(super) fn encode(message: &Message, room: usize) -> Option<Vec<u8>> {
    let bytes = |message: &Message| match message.to_vec() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "an answer cannot be encoded");
            None
        }
    };
    let whole = bytes(message)?;
    match whole.len() <= room {
        true => Some(whole),
        false => bytes(&message.truncate()),
    }
}

/// Makes "there is no such name" of others "it has nothing of the kind": the mesh has the name.
pub(super) fn let_exist(answer: &mut [u8]) {
    const CODE: u8 = 0x0f;
    if answer.len() >= HEADER && answer[3] & CODE == 3 {
        answer[3] &= !CODE;
    }
}
