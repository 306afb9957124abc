//! Looking at a backup, and filling an empty state directory from it.
//!
//! ```text
//! STATE/.restore/{identity.json, master.key, knit.db} ─checked, synced─> STATE/… ─> .restore goes
//! ```
//!
//! Invariant: while `.restore` is there no server starts; it goes when all is in its place.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context as _;
use knit_rpc::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::archive::{ArchiveError, Reader};
use super::staging::{RESTORING, private_file, sync_directory};
use super::{DATABASE, FORMAT, IDENTITY, MANIFEST, MASTER_KEY, Manifest, MasterKey};
use crate::app::restored::utc;
use crate::config::Config;
use crate::identity::Identity;
use crate::store::copy::{self, Facts, Restored};
use crate::vault::{MasterKeySource, master};

/// What is not the database is small.
const SMALL_MAX: u64 = 1 << 20;
const STDIN: &str = "-";
const MEMBERS: [&str; 3] = [DATABASE, MASTER_KEY, IDENTITY];

/// A backup but for its database, all of it checked.
struct Opened {
    manifest: Manifest,
    identity: Zeroizing<Vec<u8>>,
    master_key: Option<Zeroizing<Vec<u8>>>,
}

/// What the manifest of any format has.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
    knit: String,
}

/// Reads a backup through, writing nothing; says what it is.
pub fn check(source: &Path) -> anyhow::Result<String> {
    let opened = open(source, &mut io::sink())?;
    let manifest = &opened.manifest;
    let bytes: u64 = manifest.members.iter().map(|member| member.bytes).sum();
    Ok(format!(
        "the backup {} is whole: of cluster {}, taken {} by knit-server {}: {} KiB\n{}",
        shown(source),
        manifest.cluster,
        utc(manifest.taken_at),
        manifest.knit,
        bytes.div_ceil(1024),
        manifest.master_key.sentence()
    ))
}

/// Fills an empty state directory; says what there is to do next.
pub async fn restore(config: &Config, source: &Path, now: Timestamp) -> anyhow::Result<String> {
    let state = &config.state_dir;
    anyhow::ensure!(
        UnixStream::connect(&config.socket).is_err(),
        "a server runs here (it answers on {}): stop it first, or name another --socket if that \
         is not this directory's",
        config.socket.display()
    );
    Config::make_state_dir(state)
        .with_context(|| format!("the state directory {} cannot be made", state.display()))?;
    let directory = File::open(state)
        .with_context(|| format!("the state directory {} cannot be opened", state.display()))?;
    let directory = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another restore into {} is under way", state.display()))?;
    refuse_what_is_there(state)?;
    let staged = state.join(RESTORING);
    DirBuilder::new()
        .mode(0o700)
        .create(&staged)
        .with_context(|| format!("{} cannot be written to", state.display()))?;
    let outcome = stage(source, &staged, now).await;
    let (opened, facts, files) = outcome.inspect_err(|_| {
        // Nothing of it is in its place yet.
        let _ = std::fs::remove_dir_all(&staged);
    })?;
    let owner = directory.metadata();
    owner
        .and_then(|owner| put_in_place(state, &staged, &files, &owner))
        .with_context(|| format!("{} was not filled whole: run the same again", state.display()))?;
    Ok(told(config, &opened, &facts))
}

/// A state directory has to be empty, but for what an earlier restore that was cut off put there.
fn refuse_what_is_there(state: &Path) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(state)
        .with_context(|| format!("the state directory {} cannot be read", state.display()))?;
    let mut found: Vec<OsString> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()
        .with_context(|| format!("the state directory {} cannot be read", state.display()))?;
    found.sort();
    let was_cut_off = found.iter().any(|name| name == RESTORING);
    let is_own = |name: &OsString| MEMBERS.iter().any(|own| name == own) || name == RESTORING;
    let others = found.iter().filter(|name| *name != "lost+found");
    let others: Vec<String> = others
        .filter(|name| !(was_cut_off && is_own(name)))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    anyhow::ensure!(
        others.is_empty(),
        "{} is not empty (it has {}), and a restore overwrites nothing: move what is there away \
         first",
        state.display(),
        others.join(", ")
    );
    if was_cut_off {
        for name in MEMBERS {
            remove_if_there(&state.join(name))?;
        }
        std::fs::remove_dir_all(state.join(RESTORING))?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes everything below the staging directory, checked; the files that it made there.
async fn stage(
    source: &Path,
    staged: &Path,
    now: Timestamp,
) -> anyhow::Result<(Opened, Facts, Vec<(&'static str, File)>)> {
    let path = staged.join(DATABASE);
    let written = |path: &Path| format!("{} cannot be written", path.display());
    let mut database = private_file(&path).with_context(|| written(&path))?;
    let opened = open(source, &mut database)?;
    let (manifest, known) = (&opened.manifest, copy::known_schema());
    anyhow::ensure!(
        manifest.schema <= known,
        "the backup {} is of a newer knit-server ({}): its database's schema is at {}, this program \
         knows {known}; install that version",
        shown(source),
        manifest.knit,
        manifest.schema
    );
    let facts = copy::look(&path).await.context("the database in the backup is not whole")?;
    anyhow::ensure!(
        facts.schema == manifest.schema && facts.cluster == manifest.cluster.as_str(),
        "the backup {} does not fit together: its database is of cluster {} at schema {}, and it \
         says {} at {}",
        shown(source),
        facts.cluster,
        facts.schema,
        manifest.cluster,
        manifest.schema
    );
    let restored = Restored { taken_at: manifest.taken_at, restored_at: now };
    copy::mark_restored(&path, restored).await?;
    let mut files = vec![(DATABASE, database)];
    for (name, bytes) in
        [(MASTER_KEY, opened.master_key.as_ref()), (IDENTITY, Some(&opened.identity))]
    {
        let Some(bytes) = bytes else { continue };
        let path = staged.join(name);
        let mut file = private_file(&path).with_context(|| written(&path))?;
        file.write_all(bytes).with_context(|| written(&path))?;
        files.push((name, file));
    }
    Ok((opened, facts, files))
}

/// Hands the files to whom the state directory belongs, and moves them there. They are given away
/// as they were made and not by name: their new owner can rename what is in there at any time.
fn put_in_place(
    state: &Path,
    staged: &Path,
    files: &[(&'static str, File)],
    owner: &Metadata,
) -> io::Result<()> {
    for (_, file) in files {
        if nix::unistd::geteuid().is_root() {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
    }
    sync_directory(staged)?;
    for (name, _) in files {
        std::fs::rename(staged.join(name), state.join(name))?;
    }
    sync_directory(state)?;
    std::fs::remove_dir(staged)?;
    sync_directory(state)
}

/// What people call it.
fn shown(source: &Path) -> std::path::Display<'_> {
    let is_stdin = source.as_os_str() == STDIN;
    if is_stdin { Path::new("on stdin").display() } else { source.display() }
}

/// Reads a backup whole, its database to where it is wanted.
fn open(source: &Path, database: &mut dyn Write) -> anyhow::Result<Opened> {
    let told = || format!("the backup {} cannot be taken", shown(source));
    if source.as_os_str() == STDIN {
        return read(&mut io::stdin().lock(), database).with_context(told);
    }
    let file = File::open(source).map_err(ArchiveError::Read).with_context(told)?;
    read(&mut io::BufReader::new(file), database).with_context(told)
}

fn read(from: &mut dyn Read, database: &mut dyn Write) -> anyhow::Result<Opened> {
    let mut reader = Reader::new(from);
    let mut manifest = Vec::new();
    reader.member(MANIFEST, SMALL_MAX, &mut manifest)?;
    let damaged = |name: &str| ArchiveError::Damaged(name.to_owned());
    let head: Head = serde_json::from_slice(&manifest).map_err(|_| damaged(MANIFEST))?;
    anyhow::ensure!(
        head.format <= FORMAT,
        "it is of a newer knit-server ({}): its format is {}, this program reads {FORMAT}",
        head.knit,
        head.format
    );
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|_| damaged(MANIFEST))?;
    let identity = small(&mut reader, &manifest, IDENTITY)?;
    let master_key = match manifest.master_key {
        MasterKey::Included => Some(small(&mut reader, &manifest, MASTER_KEY)?),
        MasterKey::LeftOut | MasterKey::Elsewhere | MasterKey::None => None,
    };
    let mut hashed = Hashed { to: database, hash: Sha256::new() };
    let bytes = reader.member(DATABASE, u64::MAX, &mut hashed)?;
    match_up(&manifest, DATABASE, bytes, hashed.hash)?;
    reader.finish()?;
    let found = Identity::parse(Path::new(IDENTITY), &identity)?.cluster;
    anyhow::ensure!(
        found == manifest.cluster,
        "it does not fit together: its identity is of cluster {found}, and it says {}",
        manifest.cluster
    );
    Ok(Opened { manifest, identity, master_key })
}

fn small<R: Read>(
    reader: &mut Reader<R>,
    manifest: &Manifest,
    name: &'static str,
) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let length = reader.member(name, SMALL_MAX, &mut *bytes)?;
    match_up(manifest, name, length, Sha256::new_with_prefix(&*bytes))?;
    Ok(bytes)
}

fn match_up(manifest: &Manifest, name: &str, bytes: u64, hash: Sha256) -> Result<(), ArchiveError> {
    let sha256 = hex::encode(hash.finalize());
    let found = manifest.members.iter().find(|member| member.name == name);
    let is_right = found.is_some_and(|found| found.bytes == bytes && found.sha256 == sha256);
    is_right.then_some(()).ok_or_else(|| ArchiveError::Damaged(name.to_owned()))
}

/// Writes on and hashes.
struct Hashed<'a> {
    to: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What was restored, and what nobody but people can know.
fn told(config: &Config, opened: &Opened, facts: &Facts) -> String {
    let Opened { manifest, .. } = opened;
    let taken_at = utc(manifest.taken_at);
    let mut text = format!(
        "restored cluster {} as it was {taken_at}: {} deployments, {} instances, {} nodes\n",
        manifest.cluster, facts.deployments, facts.instances, facts.nodes
    );
    if let Some(warning) = key_warning(&config.master_key, opened, facts) {
        text.push_str(&warning);
    }
    text.push_str(
        "Start the server: it takes in what its nodes run before it decides anything, so that \
         what was deployed since stays.\n\
         What changed since and no node tells is as it was then. Look at it, and do it again:\n\
         \x20 API tokens that were revoked since are valid (knit token ls)\n\
         \x20 nodes that were removed since are let in, unless they show their farewell (knit node ls, \
         knit node rm)\n\
         \x20 secrets and registries have the values of then; what ran with newer ones keeps them \
         (knit secret ls)\n\
         \x20 projects, networks, cordons and labels that nothing runs by are as they were\n\
         Join tokens and browser sessions of before are worth nothing any more.",
    );
    text
}

fn key_warning(source: &MasterKeySource, opened: &Opened, facts: &Facts) -> Option<String> {
    let sealed = facts.sealed.as_ref()?;
    let path = source.path();
    let opens = match (&opened.master_key, source) {
        (Some(key), MasterKeySource::Own(_)) => master::opens(key, sealed),
        _ => master::file_that_opens(source, sealed).is_ok(),
    };
    (!opens).then(|| {
        format!(
            "WARNING: {} does not open what is sealed: put the master key of then there before \
             the server starts, or the secrets stay shut\n",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_what_was_made_is_given_to_nobody() {
        // Without root, nobody else's is there to give.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [state, staged, victim] =
            ["state", "staged", "victim"].map(|name| dir.path().join(name));
        std::fs::write(&victim, "").unwrap();
        for made in [&state, &staged] {
            std::fs::create_dir(made).unwrap();
        }
        std::os::unix::fs::chown(&state, Some(12), Some(34)).unwrap();
        let file = private_file(&staged.join(DATABASE)).unwrap();
        std::fs::rename(staged.join(DATABASE), dir.path().join("kept")).unwrap();
        std::os::unix::fs::symlink(&victim, staged.join(DATABASE)).unwrap();
        let owner = std::fs::metadata(&state).unwrap();
        put_in_place(&state, &staged, &[(DATABASE, file)], &owner).unwrap();
        let uid = |path: &Path| std::fs::metadata(path).unwrap().uid();
        assert_eq!((uid(&victim), uid(&dir.path().join("kept"))), (0, 12));
    }
}
