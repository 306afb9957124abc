//! A body that travels with a signature over its exact bytes.
//!
//! `{"body": {…}, "signature": "base64"}`: the body's text is kept as it was written, so that
//! verifying never depends on how two programs order keys. The signed bytes are
//! `CONTEXT ‖ 0x0a ‖ body`, where the context names what is signed: a signature given for one
//! purpose is worth nothing for another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nkeys::KeyPair;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a signature is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A node's assignment, signed by the server.
    Assignment,
    /// A request to register, signed by the node.
    Register,
    /// The answer to it, signed by the server.
    Registered,
    /// A node's claim to join, signed by its join token.
    Join,
    /// A node's request for what a pull needs, signed by the node.
    Pull,
    /// The answer to it, signed by the server.
    Pulled,
    /// That it is the server, signed by the server.
    Identity,
}

impl Context {
    fn as_str(self) -> &'static str {
        match self {
            Self::Assignment => "knit-assignment-v1",
            Self::Register => "knit-register-v1",
            Self::Registered => "knit-registered-v1",
            Self::Join => "knit-join-v1",
            Self::Pull => "knit-pull-v1",
            Self::Pulled => "knit-pulled-v1",
            Self::Identity => "knit-identity-v1",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("the message is not a signed body")]
    Shape(#[source] serde_json::Error),
    #[error("the signature is not base64")]
    Encoding(#[source] base64::DecodeError),
    #[error("the public key \"{key}\" is not an nkey")]
    Key { key: String, source: nkeys::error::Error },
    #[error("the signature is not by {key}")]
    Signature { key: String },
    #[error("the body could not be signed")]
    Sign(#[source] nkeys::error::Error),
    #[error("the signed body is not what it should be")]
    Body(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    body: Box<RawValue>,
    signature: String,
}

/// Writes `body` as JSON and signs it.
pub fn sign<T: Serialize>(
    key: &KeyPair,
    context: Context,
    body: &T,
) -> Result<Vec<u8>, SignedError> {
    let body = serde_json::value::to_raw_value(body).map_err(SignedError::Body)?;
    let signature = key.sign(&signed_bytes(context, body.get())).map_err(SignedError::Sign)?;
    let envelope = Envelope { body, signature: STANDARD.encode(signature) };
    serde_json::to_vec(&envelope).map_err(SignedError::Shape)
}

/// Reads a signed body, if `public_key` (an nkey such as `N…` or `U…`) signed it.
pub fn verify<T: DeserializeOwned>(
    public_key: &str,
    context: Context,
    message: &[u8],
) -> Result<T, SignedError> {
    let envelope: Envelope = serde_json::from_slice(message).map_err(SignedError::Shape)?;
    let signature = STANDARD.decode(&envelope.signature).map_err(SignedError::Encoding)?;
    let key = KeyPair::from_public_key(public_key)
        .map_err(|source| SignedError::Key { key: public_key.to_owned(), source })?;
    key.verify(&signed_bytes(context, envelope.body.get()), &signature)
        .map_err(|_| SignedError::Signature { key: public_key.to_owned() })?;
    serde_json::from_str(envelope.body.get()).map_err(SignedError::Body)
}

/// Reads the body without believing it: to find out *whose* key should have signed it.
pub fn peek<T: DeserializeOwned>(message: &[u8]) -> Result<T, SignedError> {
    let envelope: Envelope = serde_json::from_slice(message).map_err(SignedError::Shape)?;
    serde_json::from_str(envelope.body.get()).map_err(SignedError::Body)
}

fn signed_bytes(context: Context, body: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(context.as_str().len() + 1 + body.len());
    bytes.extend_from_slice(context.as_str().as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_body_opens_with_the_key_that_signed_it_and_no_other() {
        let key = KeyPair::new_server();
        let message = sign(&key, Context::Assignment, &vec![1, 2, 3]).unwrap();
        let opened: Vec<i32> = verify(&key.public_key(), Context::Assignment, &message).unwrap();
        assert_eq!(opened, [1, 2, 3]);

        let other = KeyPair::new_server().public_key();
        let error = verify::<Vec<i32>>(&other, Context::Assignment, &message).unwrap_err();
        assert!(matches!(error, SignedError::Signature { .. }), "{error}");
    }

    #[test]
    fn a_changed_body_or_another_purpose_is_refused() {
        let key = KeyPair::new_server();
        let message = sign(&key, Context::Assignment, &"run nothing").unwrap();
        let changed = String::from_utf8(message.clone()).unwrap().replace("nothing", "mischief");
        for (context, message) in
            [(Context::Assignment, changed.as_bytes()), (Context::Registered, &message[..])]
        {
            let error = verify::<String>(&key.public_key(), context, message).unwrap_err();
            assert!(matches!(error, SignedError::Signature { .. }), "{error}");
        }
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic() {
        let key = KeyPair::new_server().public_key();
        for rubbish in ["", "{}", "[]", "{\"body\":1}", "{\"body\":1,\"signature\":\"%\"}", "\0"] {
            assert!(verify::<i32>(&key, Context::Assignment, rubbish.as_bytes()).is_err());
        }
        let message = sign(&KeyPair::new_server(), Context::Assignment, &1).unwrap();
        assert!(verify::<i32>("no key", Context::Assignment, &message).is_err());
    }
}
