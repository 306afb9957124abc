use knit_rpc::id::ClusterId;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1);

fn place(name: &str, version: u64) -> Place {
    Place { kind: "secret", project: "shop".to_owned(), name: name.to_owned(), version }
}

async fn store() -> Store {
    Store::in_memory(&ClusterId::from_bytes([1; 16])).await.unwrap()
}

fn own(dir: &tempfile::TempDir) -> MasterKeySource {
    MasterKeySource::choose(None, None, dir.path())
}

async fn load(store: &Store, source: &MasterKeySource) -> Vault {
    Vault::load(store, source, NOW).await.unwrap()
}

#[tokio::test]
async fn a_value_opens_at_its_own_place_alone_and_after_a_restart() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let vault = load(&store, &own(&dir)).await;
    let sealed = vault.seal(&place("db", 1), b"hunter2").unwrap();
    assert!(!sealed.as_str().contains("hunter2"));
    let again = load(&store, &own(&dir)).await;
    assert_eq!(again.open(&place("db", 1), &sealed).unwrap().as_slice(), b"hunter2");
    for other in [
        place("db", 2),
        place("other", 1),
        Place { project: "default".to_owned(), ..place("db", 1) },
        Place { kind: "registry", ..place("db", 1) },
    ] {
        let refused = again.open(&other, &sealed);
        assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{other:?}");
    }
}

#[tokio::test]
async fn a_master_key_that_is_gone_or_wrong_shuts_the_vault_and_is_never_made_anew() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let path = dir.path().join("master.key");
    let sealed = load(&store, &own(&dir)).await.seal(&place("db", 1), b"hunter2").unwrap();
    let right = std::fs::read_to_string(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    std::fs::remove_file(&path).unwrap();
    let vault = load(&store, &own(&dir)).await;
    assert!(vault.shut().unwrap().contains("is missing"), "{vault:?}");
    assert!(matches!(vault.open(&place("db", 1), &sealed), Err(VaultError::Shut(_))));
    assert!(matches!(vault.seal(&place("db", 1), b"x"), Err(VaultError::Shut(_))));
    assert!(!path.exists(), "no key was made over what is sealed");

    for (content, mode, words) in [
        ("ab".repeat(32), 0o600, "is not the one of this database"),
        ("short".to_owned(), 0o600, "64 hex digits"),
        (String::new(), 0o600, "64 hex digits"),
        (right.clone(), 0o640, "can be read by others"),
    ] {
        write(&path, &content, mode);
        let vault = load(&store, &own(&dir)).await;
        assert!(vault.shut().unwrap().contains(words), "{:?}", vault.shut());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    write(&path, &right, 0o600);
    let opened = load(&store, &own(&dir)).await.open(&place("db", 1), &sealed).unwrap();
    assert_eq!(opened.as_slice(), b"hunter2");
}

#[tokio::test]
async fn a_file_that_the_operator_named_is_never_made() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let path = dir.path().join("elsewhere");
    let source = MasterKeySource::choose(Some(path.clone()), None, dir.path());
    assert!(load(&store, &source).await.shut().unwrap().contains("is missing"));
    assert!(!path.exists());
    write(&path, "\u{1}".repeat(32).as_str(), 0o600);
    assert_eq!(load(&store, &source).await.shut(), None);
    let credentials = dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    write(&credentials.join("master-key"), &"01".repeat(32), 0o440);
    let source = MasterKeySource::choose(None, Some(credentials), dir.path());
    assert_eq!(load(&store, &source).await.shut(), None, "the same key, as systemd hands it in");
}

#[tokio::test]
async fn after_a_rotation_the_old_key_opens_nothing_and_a_running_server_goes_on() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let path = dir.path().join("master.key");
    let running = load(&store, &own(&dir)).await;
    let sealed = running.seal(&place("db", 1), b"hunter2").unwrap();
    let old = std::fs::read_to_string(&path).unwrap();
    rotate(&store, &own(&dir), None, NOW).await.unwrap();
    let new = std::fs::read_to_string(&path).unwrap();
    assert_ne!(old, new);
    assert!(running.open(&place("db", 1), &sealed).is_ok());
    assert!(load(&store, &own(&dir)).await.open(&place("db", 1), &sealed).is_ok());
    write(&path, &old, 0o600);
    assert!(load(&store, &own(&dir)).await.shut().unwrap().contains("is not the one"));
    let refused = rotate(&store, &own(&dir), None, NOW).await.unwrap_err();
    assert!(matches!(refused, RotateError::Old(_)), "{refused}");
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_anywhere_leaves_a_vault_that_opens() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let (path, next) = (dir.path().join("master.key"), dir.path().join("master.key.next"));
    let sealed = load(&store, &own(&dir)).await.seal(&place("db", 1), b"hunter2").unwrap();
    let old = std::fs::read_to_string(&path).unwrap();

    // Before the database was sealed anew: the next key is a leftover.
    write(&next, &"cd".repeat(32), 0o600);
    assert!(load(&store, &own(&dir)).await.open(&place("db", 1), &sealed).is_ok());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old);

    // After it, and before the files changed places.
    rotate(&store, &own(&dir), None, NOW).await.unwrap();
    let new = std::fs::read_to_string(&path).unwrap();
    write(&next, &new, 0o600);
    write(&path, &old, 0o600);
    assert!(load(&store, &own(&dir)).await.open(&place("db", 1), &sealed).is_ok());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
    assert!(!next.exists());
}

#[tokio::test]
async fn a_named_key_is_rotated_to_another_named_one() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store().await);
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    write(&old, &"01".repeat(32), 0o600);
    let named = |path: &std::path::Path| MasterKeySource::Named(path.to_owned());
    let sealed = load(&store, &named(&old)).await.seal(&place("db", 1), b"hunter2").unwrap();
    let refused = rotate(&store, &named(&old), None, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("--new-master-key-file"), "{refused}");
    rotate(&store, &named(&old), Some(&new), NOW).await.unwrap();
    assert!(load(&store, &named(&old)).await.shut().is_some());
    assert!(load(&store, &named(&new)).await.open(&place("db", 1), &sealed).is_ok());
}

fn write(path: &std::path::Path, content: &str, mode: u32) {
    knit_runtime::file::write_atomic(path, content.as_bytes(), mode).unwrap();
}
