//! The key that opens what the server seals to this node: made once, in a file of its own.
//!
//! It is only ever told by its public half. Should the file be lost, a new key is made: the
//! server seals everything anew as soon as the node has registered with it.

use std::path::Path;

use knit_rpc::sealed_box::OpeningKey;
use zeroize::Zeroizing;

use super::{IdentityError, is_there};

const FILE: &str = "sealing.key";

pub(super) fn load_or_create(state_dir: &Path) -> Result<OpeningKey, IdentityError> {
    let path = state_dir.join(FILE);
    if is_there(&path)? { read(&path) } else { create(&path) }
}

fn read(path: &Path) -> Result<OpeningKey, IdentityError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    let text = Zeroizing::new(text);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *bytes).map_err(|_| IdentityError::Corrupt {
        path: path.to_owned(),
        problem: "it is no key of 64 hex digits".to_owned(),
    })?;
    Ok(OpeningKey::from_bytes(*bytes))
}

fn create(path: &Path) -> Result<OpeningKey, IdentityError> {
    let key = OpeningKey::generate();
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(*key.to_bytes()))));
    knit_runtime::file::create_exclusive(path, text.as_bytes(), 0o600)
        .map_err(|source| IdentityError::Write { path: path.to_owned(), source })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_never_replaced() {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let dir = std::env::temp_dir().join(format!("knit-sealing-{}", hex::encode(random)));
        std::fs::create_dir(&dir).unwrap();
        let first = load_or_create(&dir).unwrap();
        let path = dir.join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&dir).unwrap().sealing_key(), first.sealing_key());
        std::fs::write(&path, "rubbish").unwrap();
        assert!(matches!(load_or_create(&dir), Err(IdentityError::Corrupt { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "rubbish");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_create(&dir), Err(IdentityError::Mode { .. })));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
