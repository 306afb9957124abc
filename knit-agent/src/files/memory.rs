//! A directory that is in memory alone: `/run` where that is, else a tmpfs of our own.
//!
//! Invariant: nothing is written below it before it was found to be in memory.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

/// Bytes that a tmpfs of our own may hold.
const SIZE: &str = "64m";
/// ramfs, which knows no bound.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Makes the directory, in memory, for its owner alone.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if !is_in_memory(directory)? {
        mount_own(directory)?;
    }
    if !is_in_memory(directory)? {
        return Err(io::Error::other("it is not in memory, and no tmpfs could be put there"));
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

fn is_in_memory(directory: &Path) -> io::Result<bool> {
    let found = statfs(directory)?.filesystem_type();
    Ok(found == TMPFS_MAGIC || found == FsType(RAMFS_MAGIC))
}

/// Never swapped out where the kernel can promise that.
fn mount_own(directory: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=0700,size={SIZE}");
    let put =
        |options: &str| mount(Some("knit-secrets"), directory, Some("tmpfs"), flags, Some(options));
    put(&format!("{options},noswap")).or_else(|_| put(&options))?;
    Ok(())
}

/// Replaces a file as a whole: who opens it finds the old one or the new one, with its owner.
pub(super) fn replace(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.next"));
    let written = (|| {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        // The mode first: of a file that is another's it takes one more capability.
        file.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
