//! Packing messages into `Any` and back, with the type checked.

use prost::{Message, Name};

use crate::{Any, Error};

/// Wraps a message with its type URL.
pub fn pack_any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Decodes an `Any` that must hold an `M`.
///
/// # Errors
/// When it holds another type, or bytes that are not an `M`.
pub fn decode_any<M: Message + Name + Default>(any: &Any) -> Result<M, Error> {
    let expected = M::type_url();
    if any.type_url != expected {
        return Err(Error::WrongType {
            expected,
            found: any.type_url.clone(),
        });
    }
    M::decode(any.value.as_slice()).map_err(|source| Error::Decode {
        type_url: expected,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{cluster::Cluster, listener::Listener};

    #[test]
    fn round_trip_checks_the_type() {
        let cluster = Cluster {
            name: "a".into(),
            ..Cluster::default()
        };
        let any = pack_any(&cluster);
        assert_eq!(decode_any::<Cluster>(&any).expect("same type"), cluster);
        assert!(matches!(
            decode_any::<Listener>(&any),
            Err(Error::WrongType { .. })
        ));
    }
}
