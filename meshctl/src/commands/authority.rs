//! `meshctl authority`: who may be a member of the mesh.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use knit_link::mesh::MeshError;
use knit_runtime::{file, terminal};
use meshctl_core::authority::{AuthoritySecret, Certificate, Revocation, Terms};
use meshctl_core::key::PublicKey;
use zeroize::Zeroizing;

use crate::cli::SocketArgs;
use crate::cli::authority::{AuthorityCommand, SecretArgs};

const SECRET_MODE: u32 = 0o600;
const HOUR_SECS: i64 = 3600;
/// The bytes of a revocation and its line feed are fewer.
const REVOCATION_MAX_BYTES: u64 = 1024;

pub(super) async fn run(command: AuthorityCommand) -> Result<()> {
    match command {
        AuthorityCommand::Init { out } => init(&out),
        AuthorityCommand::Show { key } => {
            Ok(terminal::print(&format!("{}\n", secret(&key)?.public()))?)
        }
        AuthorityCommand::Sign { node, name, expires, key } => sign(node, name, &expires, &key),
        AuthorityCommand::Revoke { node, print, key, socket } => {
            let revocation = Revocation::sign(&secret(&key)?, node, now_unix());
            if print {
                return Ok(terminal::print(&format!("{}\n", revocation.text()))?);
            }
            publish(&revocation, &socket).await
        }
        AuthorityCommand::Publish { revocation, socket } => {
            publish(&Revocation::parse(read(&revocation)?.trim())?, &socket).await
        }
    }
}

fn init(out: &Path) -> Result<()> {
    let secret = AuthoritySecret::from_random(&*random()?);
    let line = Zeroizing::new(format!("{}\n", secret.expose().as_str()));
    file::create_exclusive(out, line.as_bytes(), SECRET_MODE).with_context(|| {
        format!("{} cannot be made: name a file that does not exist yet", out.display())
    })?;
    terminal::print(&format!("{}\n", secret.public()))?;
    terminal::eprintln(&format!(
        "This is the authority's public key. Who has {} makes members: keep it off the nodes.\n\
         Sign each node:  meshctl authority sign KEY --name NAME --expires 1y --authority-key {}\n\
         then join with:  meshctl join --certificate FILE --require-signed {}",
        out.display(),
        out.display(),
        secret.public()
    ));
    Ok(())
}

fn sign(key: PublicKey, name: String, expires: &str, authority: &SecretArgs) -> Result<()> {
    let now = now_unix();
    let expires = moment(expires, now).with_context(|| {
        format!("`{expires}` is no time: write a span such as `90d`, `12h` or `1y`, or a day as `2027-12-31`")
    })?;
    let serial = u64::from_le_bytes(*random()?);
    let terms = Terms { key, name, not_before: now, expires, serial };
    let certificate = Certificate::sign(&secret(authority)?, terms)?;
    Ok(terminal::print(&format!("{}\n", certificate.text()))?)
}

async fn publish(revocation: &Revocation, socket: &SocketArgs) -> Result<()> {
    match super::client(socket).revoke(revocation.text()).await {
        Ok(()) => {
            terminal::eprintln(&format!(
                "revoked {}; the members are being told",
                revocation.key()
            ));
            Ok(())
        }
        Err(MeshError::Unsupported { path, .. }) => anyhow::bail!(
            "the daemon on {} knows no authorities: hand the revocation to a node that runs `meshctl join`",
            path.display()
        ),
        Err(error) => Err(error.into()),
    }
}

fn secret(args: &SecretArgs) -> Result<AuthoritySecret> {
    let path = &args.authority_key;
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
    AuthoritySecret::parse(&text).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let reading = if path == Path::new("-") {
        std::io::stdin().take(REVOCATION_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(REVOCATION_MAX_BYTES).read_to_string(&mut text))
    };
    reading.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text)
}

/// A span from now, or the end of a day in UTC, as unix seconds.
fn moment(text: &str, now: i64) -> Option<i64> {
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        let end = day.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        return Some(end.timestamp().as_second());
    }
    now.checked_add(span_secs(text)?)
}

/// A span such as `90d`, in seconds.
pub(super) fn span_secs(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number > 0)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => HOUR_SECS,
        'd' => 24 * HOUR_SECS,
        'w' => 7 * 24 * HOUR_SECS,
        'y' => 365 * 24 * HOUR_SECS,
        _ => return None,
    };
    number.checked_mul(secs)
}

fn now_unix() -> i64 {
    i64::try_from(knit_runtime::clock::now().as_millis() / 1000).unwrap_or_default()
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).context("the system gave no random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spans_or_days() {
        for (text, expected) in [
            ("30m", Some(1_000 + 1_800)),
            ("12h", Some(1_000 + 43_200)),
            ("90d", Some(1_000 + 7_776_000)),
            ("1y", Some(1_000 + 31_536_000)),
            ("2027-01-14", Some(1_799_971_200)),
            ("0d", None),
            ("-1d", None),
            ("90", None),
            ("d", None),
            ("", None),
            ("2027-02-30", None),
            ("9223372036854775807y", None),
        ] {
            assert_eq!(moment(text, 1_000), expected, "{text}");
        }
    }
}
