//! Directories that things are made in before they are moved to their places.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

const PREFIX: &str = ".knit-backup-";
/// Where a restore puts what it reads, and whose being there says that it is not done.
pub(super) const RESTORING: &str = ".restore";

/// A directory of this process alone, gone when it is dropped.
pub(super) struct Staging {
    pub(super) path: PathBuf,
}

impl Staging {
    /// Makes one beside what will be moved out of it; what killed ones left there goes.
    pub(super) fn beside(directory: &Path) -> anyhow::Result<Self> {
        sweep(directory);
        let path = directory.join(format!("{PREFIX}{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be written to", directory.display()))?;
        Ok(Self { path })
    }

    /// A new file in it, for nobody else.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<(PathBuf, File)> {
        let path = self.path.join(name);
        let file =
            private_file(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok((path, file))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nobody can do anything about what stays, and the next one tries again.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A new file of mode 0600.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Refuses a state directory in which a restore was cut off.
pub fn refuse_half_a_restore(state_dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !state_dir.join(RESTORING).exists(),
        "a restore into {} was cut off: run `knit-server restore` again",
        state_dir.display()
    );
    Ok(())
}

/// Removes what processes that are gone left behind.
pub(super) fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<i32>().ok());
        let own = i32::try_from(std::process::id()).ok();
        let is_gone = |pid| Some(pid) == own || kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH);
        if pid.is_some_and(is_gone) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
