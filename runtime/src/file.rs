//! Files that are whole or absent: written beside their place, synced, then moved in.
//!
//! Invariant: no reader ever sees half a file, not after a power cut either, and no file is
//! ever readable by more than `mode` says, not for an instant.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchownat};

/// Replaces the file at `path` by `bytes` with exactly the permission bits of `mode`.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = Temporary::write(path, bytes, mode)?;
    std::fs::rename(&temporary.path, path)?;
    sync_parent(path)
}

/// Creates the file at `path`; fails with `AlreadyExists` when there is one, which stays untouched.
pub fn create_exclusive(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = Temporary::write(path, bytes, mode)?;
    std::fs::hard_link(&temporary.path, path)?;
    drop(temporary);
    sync_parent(path)
}

/// Gives the files that lie in `directory`, not deeper, to whom it belongs itself: what root made
/// there is its daemon's.
///
/// The daemon can put anything there at any time, so nothing is done by name twice: links are not
/// followed, and a file that has a name elsewhere as well is refused.
pub fn give_to_owner(directory: &Path) -> io::Result<()> {
    let opened = File::open(directory)?;
    let owner = opened.metadata()?;
    let (uid, gid) = (owner.uid(), owner.gid());
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&opened, name.as_os_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let has = file.metadata()?;
        if !has.is_file() || (has.uid(), has.gid()) == (uid, gid) {
            continue;
        }
        if has.nlink() > 1 {
            let why = format!("{} has another name elsewhere", name.to_string_lossy());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fchownat(&file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    }
    Ok(())
}

/// A file beside its later place, removed when it was not moved there.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(target: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let temporary = Self { path: temporary_path(target)? };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o700)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&temporary.path)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; after an error nobody cares why.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn temporary_path(target: &Path) -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = target
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}.{count}.tmp", std::process::id()));
    let path = target.with_file_name(temporary);
    // A leftover of a killed process that had our pid.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(path),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomic(&path, b"one", 0o600).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode_of(&path)), (b"one".to_vec(), 0o600));
        write_atomic(&path, b"two", 0o444).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode_of(&path)), (b"two".to_vec(), 0o444));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left beside it");
    }

    #[test]
    fn an_existing_file_is_never_overwritten_by_create() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        create_exclusive(&path, b"first", 0o600).unwrap();
        let error = create_exclusive(&path, b"second", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left beside it");
    }

    #[test]
    fn a_symbolic_link_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("link"));
        std::fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    fn owner(path: &Path) -> (u32, u32) {
        let has = std::fs::symlink_metadata(path).unwrap();
        (has.uid(), has.gid())
    }

    #[test]
    fn what_root_made_goes_to_the_owner_of_its_directory_and_nothing_else_does() {
        // Without root, nobody else's is there to give.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (state, victim) = (dir.path().join("state"), dir.path().join("victim"));
        std::fs::create_dir_all(state.join("nats")).unwrap();
        std::fs::write(&victim, "").unwrap();
        lchown(&state, Some(12), Some(34)).unwrap();
        for made in ["knit.db", "knit.db-wal", "nats/key"] {
            std::fs::write(state.join(made), "").unwrap();
        }
        symlink(&victim, state.join("link")).unwrap();
        symlink(dir.path(), state.join("links")).unwrap();
        nix::unistd::mkfifo(&state.join("pipe"), Mode::S_IRWXU).unwrap();
        give_to_owner(&state).unwrap();
        for given in ["knit.db", "knit.db-wal"] {
            assert_eq!(owner(&state.join(given)), (12, 34), "{given}");
        }
        for kept in ["link", "links", "pipe", "nats", "nats/key"] {
            assert_eq!(owner(&state.join(kept)), (0, 0), "{kept}");
        }
        assert_eq!(owner(&victim), (0, 0), "links are not followed");

        std::fs::hard_link(&victim, state.join("identity.json")).unwrap();
        let error = give_to_owner(&state).unwrap_err();
        assert!(error.to_string().contains("identity.json has another name"), "{error}");
        assert_eq!(owner(&victim), (0, 0), "nor is it by its other name");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_atomic(&dir.path().join("none/state"), b"", 0o600).is_err());
    }
}
