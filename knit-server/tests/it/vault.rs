//! The master key, from the command line and from the operator's point of view.

use std::path::Path;
use std::process::{Command, Output};

use knit_runtime::clock;
use knit_server::identity::Identity;
use knit_server::store::Store;
use knit_server::vault::{MasterKeySource, Place, Vault};

use crate::support::process::Program;
use crate::support::{Home, Server};

fn rotate(state: &Path, extra: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_knit-server"))
        .args(["rotate-master-key", "--state-dir"])
        .arg(state)
        .args(extra)
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn open(state: &Path) -> (Store, Vault) {
    let identity = Identity::load_or_create(&state.join("identity.json"), &state.join("none"));
    let cluster = identity.expect("an identity").cluster;
    let store = Store::open(&state.join("knit.db"), &cluster).await.expect("open");
    let master = MasterKeySource::choose(None, None, state);
    let vault = Vault::load(&store, &master, clock::now()).await.expect("a vault");
    (store, vault)
}

fn place() -> Place {
    Place { kind: "secret", project: "shop".to_owned(), name: "db".to_owned(), version: 1 }
}

#[tokio::test]
async fn the_master_key_is_rotated_under_a_running_server_and_the_old_one_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = Program::start(dir.path()).await;
    let (store, vault) = open(dir.path()).await;
    let sealed = vault.seal(&place(), b"hunter2").expect("sealed");
    store.close().await;
    let key = dir.path().join("master.key");
    let old = std::fs::read(&key).expect("a key");

    let output = rotate(dir.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "a key is never printed");
    assert_ne!(std::fs::read(&key).expect("a key"), old);
    program.until_healthy().await;
    let (store, vault) = open(dir.path()).await;
    assert_eq!(vault.open(&place(), &sealed).expect("it opens").as_slice(), b"hunter2");
    store.close().await;

    knit_runtime::file::write_atomic(&key, &old, 0o600).expect("written");
    let program = program.start_again().await;
    assert!(program.api.nodes().await.is_ok(), "the rest is served");
    let (_, vault) = open(dir.path()).await;
    assert!(vault.shut().expect("shut").contains("is not the one of this database"));
    let output = rotate(dir.path(), &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("put the right one back"), "{}", said(&output));
    assert_eq!(std::fs::read(&key).expect("a key"), old, "it is not replaced");
}

#[tokio::test]
async fn a_vault_that_lost_its_key_stays_shut_and_nothing_is_made_in_its_place() {
    let (home, bus) = (Home::new(), knit_link::bus::MemoryBus::new());
    Server::start_on_disk(&home, &bus).await.stop().await;
    let key = home.dir.path().join("master.key");
    std::fs::remove_file(&key).expect("removed");
    let server = Server::start_on_disk(&home, &bus).await;
    assert!(server.app.vault.shut().is_some_and(|why| why.contains("is missing")));
    assert!(!key.exists());
    server.deploy("{name: web, image: v1}").await;
    assert!(server.view("web").await.is_some(), "all else goes on");
}

/// What the unit finds in its credential's directory is what `/etc/credstore` has.
const BY_HAND: &str = r#"
set -eu
mount -t tmpfs none /etc
mount -t tmpfs none /var/lib
mkdir -m 700 /etc/credstore /etc/handed
key=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
echo $key >/etc/credstore/knit.master-key
echo $key >/etc/handed/master-key
"$1" init --socket /etc/none >/dev/null
test ! -e /var/lib/knit-server/master.key
"$1" backup --out /var/lib/backup
rm -r /var/lib/knit-server
CREDENTIALS_DIRECTORY=/etc/handed "$1" restore --socket /etc/none /var/lib/backup
rm -r /var/lib/knit-server
"$1" restore --socket /etc/none /var/lib/backup
# Another directory is not the unit's.
"$1" init --socket /etc/none --state-dir /var/lib/other >/dev/null
test -e /var/lib/other/master.key
# What this key does not open is not backed up without a key.
cp -a /var/lib/other/. /var/lib/knit-server
! "$1" backup --out /var/lib/not || exit 1
"#;

#[test]
fn what_is_done_by_hand_takes_the_units_credential_from_where_the_unit_has_it() {
    // Who is not root sees no such file.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", BY_HAND, "sh", env!("CARGO_BIN_EXE_knit-server")])
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .expect("a namespace");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("The master key is NOT in it"), "{said}");
    assert_eq!(said.matches("restored cluster").count(), 2, "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    assert!(said.contains("/etc/credstore/knit.master-key is not the one"), "{said}");
}
