//! Making a backup, beside a running server or without one.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use knit_rpc::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::archive::Writer;
use super::staging::{Staging, sweep, sync_directory};
use super::{DATABASE, FORMAT, IDENTITY, MANIFEST, MASTER_KEY, Manifest, MasterKey, Member};
use crate::app::restored::utc;
use crate::config::Config;
use crate::identity::Identity;
use crate::store::copy::{self, Facts};
use crate::vault::{MasterKeySource, master};

/// How often a copy is taken anew because the master key changed meanwhile.
const TRIES_MAX: u32 = 3;

/// How a backup is made.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A file, a directory, or `-`.
    pub out: Option<PathBuf>,
    pub force: bool,
    pub without_master_key: bool,
}

enum Target {
    Stdout,
    File(PathBuf),
}

/// What goes into the file.
struct Contents {
    manifest: Manifest,
    facts: Facts,
    identity: Zeroizing<Vec<u8>>,
    master_key: Option<Zeroizing<Vec<u8>>>,
    database: PathBuf,
}

/// Makes a backup; returns what there is to say about it.
pub async fn take(config: &Config, wish: Wish, now: Timestamp) -> anyhow::Result<String> {
    let database = config.database();
    anyhow::ensure!(
        database.exists() && config.identity().exists(),
        "there is no cluster in {}: nothing can be backed up",
        config.state_dir.display()
    );
    super::refuse_half_a_restore(&config.state_dir)?;
    let target = target(&wish, now)?;
    sweep(&config.state_dir);
    let staging = Staging::beside(match &target {
        Target::Stdout => &config.state_dir,
        Target::File(path) => parent(path),
    })?;
    let contents = collect(config, &wish, &staging, now).await?;
    let at = match &target {
        Target::Stdout => {
            let mut out = io::stdout().lock();
            write(&contents, &mut out).context("the backup could not be written to stdout")?;
            out.flush().context("the backup could not be written to stdout")?;
            "stdout".to_owned()
        }
        Target::File(path) => {
            let told = || format!("the backup {} could not be written", path.display());
            let (made, mut file) = staging.file("backup.tar")?;
            write(&contents, &mut file).and_then(|()| file.sync_all()).with_context(told)?;
            place(&made, path, wish.force).with_context(told)?;
            path.display().to_string()
        }
    };
    Ok(summary(&contents, &at))
}

/// Where it goes; refuses what is there already before anything is done.
fn target(wish: &Wish, now: Timestamp) -> anyhow::Result<Target> {
    let out = wish.out.clone().unwrap_or_else(|| ".".into());
    if out.as_os_str() == "-" {
        anyhow::ensure!(
            !io::stdout().is_terminal(),
            "a backup is nothing for a terminal: redirect stdout, or name a file with --out"
        );
        return Ok(Target::Stdout);
    }
    let path = if out.is_dir() { out.join(name_of(now)) } else { out };
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.is_file() => {
            anyhow::bail!("{} is there and is no file: name another", path.display())
        }
        Ok(_) if !wish.force => {
            anyhow::bail!("{} is there already: name another, or say --force", path.display())
        }
        Ok(_) | Err(_) => Ok(Target::File(path)),
    }
}

fn name_of(now: Timestamp) -> String {
    let digits: String =
        utc(now).chars().map(|c| if c == ' ' { '-' } else { c }).filter(|c| *c != ':').collect();
    format!("knit-backup-{}.tar", digits.trim_end_matches("-UTC"))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

async fn collect(
    config: &Config,
    wish: &Wish,
    staging: &Staging,
    now: Timestamp,
) -> anyhow::Result<Contents> {
    let path = config.identity();
    let identity = Zeroizing::new(
        std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?,
    );
    let cluster = Identity::parse(&path, &identity)?.cluster;
    let mut tries = 0;
    let (database, facts, kind, master_key) = loop {
        tries += 1;
        let (database, _) = staging.file(&format!("{DATABASE}.{tries}"))?;
        copy::take(&config.database(), &database)
            .await
            .context("the database could not be copied")?;
        let facts = copy::look(&database).await.context("the copy of the database is not whole")?;
        // A master key that was changed after the copy was taken does not open it.
        let rotated = || tries < TRIES_MAX;
        match master_key(config, wish, &facts) {
            Ok((kind, key)) => break (database, facts, kind, key),
            Err(_) if rotated() => std::fs::remove_file(&database)?,
            Err(error) => return Err(error),
        }
    };
    anyhow::ensure!(
        facts.cluster == cluster.as_str(),
        "the database is of cluster {}, the identity file of cluster {cluster}: this is no state \
         to come back to",
        facts.cluster
    );
    let mut members = vec![member(IDENTITY, &mut identity.as_slice())?];
    if let Some(key) = &master_key {
        members.push(member(MASTER_KEY, &mut key.as_slice())?);
    }
    members.push(member(DATABASE, &mut File::open(&database)?)?);
    let manifest = Manifest {
        format: FORMAT,
        knit: env!("CARGO_PKG_VERSION").to_owned(),
        cluster,
        taken_at: now,
        schema: facts.schema,
        master_key: kind,
        members,
    };
    Ok(Contents { manifest, facts, identity, master_key, database })
}

/// The key that opens what is sealed, if it goes into the backup.
fn master_key(
    config: &Config,
    wish: &Wish,
    facts: &Facts,
) -> anyhow::Result<(MasterKey, Option<Zeroizing<Vec<u8>>>)> {
    let Some(sealed) = &facts.sealed else { return Ok((MasterKey::None, None)) };
    if wish.without_master_key {
        return Ok((MasterKey::LeftOut, None));
    }
    let source = &config.master_key;
    let key = master::file_that_opens(source, sealed).context(
        "a backup without the master key opens no secret: if it is kept elsewhere, name it with \
         --master-key-file, or say --without-master-key",
    )?;
    Ok(match source {
        MasterKeySource::Own(_) => (MasterKey::Included, Some(key)),
        MasterKeySource::Named(_) | MasterKeySource::Credential(_) => (MasterKey::Elsewhere, None),
    })
}

fn member(name: &str, from: &mut dyn Read) -> io::Result<Member> {
    let mut hash = Sha256::new();
    let bytes = io::copy(from, &mut hash)?;
    Ok(Member { name: name.to_owned(), bytes, sha256: hex::encode(hash.finalize()) })
}

fn write(contents: &Contents, to: &mut dyn Write) -> io::Result<()> {
    let manifest = serde_json::to_vec_pretty(&contents.manifest)?;
    let seconds = contents.manifest.taken_at.as_millis() / 1000;
    let mut writer = Writer::new(to, seconds);
    writer.add(MANIFEST, manifest.len() as u64, &mut manifest.as_slice())?;
    writer.add(IDENTITY, contents.identity.len() as u64, &mut contents.identity.as_slice())?;
    if let Some(key) = &contents.master_key {
        writer.add(MASTER_KEY, key.len() as u64, &mut key.as_slice())?;
    }
    let mut database = File::open(&contents.database)?;
    let bytes = database.seek(io::SeekFrom::End(0))?;
    database.rewind()?;
    writer.add(DATABASE, bytes, &mut database)?;
    writer.finish().map(drop)
}

/// Moves the finished file to its place, over another one only when that is meant.
fn place(made: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        std::fs::rename(made, path)?;
    } else if let Err(error) = std::fs::hard_link(made, path) {
        // Some file systems have no hard links; on them two at once may take each other's name.
        if error.kind() == io::ErrorKind::AlreadyExists || path.exists() {
            return Err(error);
        }
        std::fs::rename(made, path)?;
    }
    sync_directory(parent(path))
}

fn summary(contents: &Contents, at: &str) -> String {
    let Contents { manifest, facts, .. } = contents;
    let bytes: u64 = manifest.members.iter().map(|member| member.bytes).sum();
    format!(
        "backed up cluster {} to {at}: {} deployments, {} instances, {} nodes, {} KiB\n{}",
        manifest.cluster,
        facts.deployments,
        facts.instances,
        facts.nodes,
        bytes.div_ceil(1024),
        manifest.master_key.sentence()
    )
}
