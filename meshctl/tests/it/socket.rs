//! The daemon's socket file and its lines.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::support::Lan;

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_private_replaces_a_stale_one_and_is_never_stolen() {
    let lan = Lan::new(2);
    drop(UnixListener::bind(lan.socket(1)).unwrap());
    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let mode = fs::metadata(lan.socket(1)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut thief = lan.join_at(2, &lan.socket(1), &[]);
    assert!(!thief.ends());
    let log = thief.log();
    assert!(log.contains("a mesh daemon answers on"), "{log}");
    assert_eq!(lan.mesh_interface(2), "", "it touched nothing");
    one.client.ping().await.unwrap();

    fs::write(lan.scratch.path("file"), "precious").unwrap();
    let file = lan.scratch.path("file");
    let mut careless = lan.join_at(2, &file, &[]);
    assert!(!careless.ends());
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_answered_in_order_and_an_over_long_one_ends_the_connection() {
    let lan = Lan::new(1);
    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let dial = || {
        let stream = UnixStream::connect(lan.socket(1)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    };
    let ping = |id: usize, pad: usize| {
        let start = format!(r#"{{"jsonrpc":"2.0","method":"daemon.ping","id":{id},"pad":""#);
        format!("{start}{}\"}}", "x".repeat(pad - start.len() - 2))
    };

    let mut stream = dial();
    let request = format!("{}\r\n{}\nnonsense\n{}", ping(1, 100), ping(2, 65_535), ping(3, 100));
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers: Vec<String> = BufReader::new(&stream).lines().map(Result::unwrap).collect();
    let ends: Vec<&str> = answers.iter().map(|line| &line[line.len() - 7..]).collect();
    assert_eq!(
        ends,
        [r#","id":1}"#, r#","id":2}"#, r#"d":null}"#, r#","id":3}"#].map(|e| &e[e.len() - 7..])
    );

    let mut stream = dial();
    stream.write_all(ping(4, 65_536).as_bytes()).unwrap();
    let _ = stream.write_all(b"\n");
    let mut answer = Vec::new();
    // A reset is the other way to see the end.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    one.client.ping().await.unwrap();
}

/// Runs a command as a user of no rights, with or without a further group.
fn as_nobody(groups: &[&str], program: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534"]);
    match groups {
        [] => command.arg("--clear-groups"),
        groups => command.args(["--groups", &groups.join(",")]),
    };
    command.arg(program).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_ask_and_nobody_else_and_only_the_owner_may_end_it() {
    let lan = Lan::new(1);
    let one = lan.join(1, &["--socket-group", "games"]);
    one.mesh_ip().await;
    let socket = lan.socket(1);
    let meta = fs::metadata(&socket).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    let gid = std::os::unix::fs::MetadataExt::gid(&meta).to_string();

    let meshctl = lan.scratch.path("meshctl");
    fs::copy(crate::support::MESHCTL, &meshctl).unwrap();
    let meshctl = meshctl.to_str().unwrap();
    let ask = |groups: &[&str], command: &str| {
        as_nobody(groups, meshctl, &[command, "--mesh-socket", socket.to_str().unwrap()])
    };
    assert!(ask(&[&gid], "status").status.success());
    let refused = ask(&[&gid], "leave");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("only root and the daemon's own user may"), "{said}");
    assert!(!ask(&[], "status").status.success());
    one.client.ping().await.unwrap();

    // Without a group a stranger is refused even where the file would let it in.
    let two = lan.scratch.path("open.sock");
    drop(one);
    let one = lan.join_at(1, &two, &[]);
    one.mesh_ip().await;
    fs::set_permissions(&two, fs::Permissions::from_mode(0o666)).unwrap();
    let status = ["status", "--mesh-socket", two.to_str().unwrap()];
    assert!(!as_nobody(&[], meshctl, &status).status.success());
    assert!(one.log().contains("a stranger was refused at the mesh socket"), "{}", one.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_a_public_directory_is_refused() {
    let lan = Lan::new(1);
    let public = lan.scratch.path("public");
    fs::create_dir(&public).unwrap();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut refused = lan.join_at(1, &public.join("wgmesh.sock"), &[]);
    assert!(!refused.ends());
    assert!(refused.log().contains("everybody can write to"), "{}", refused.log());

    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let ask = |stream: &mut UnixStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"daemon.ping\",\"id\":1}\n");
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer.contains("pong")
    };
    let mut open: Vec<UnixStream> =
        (0..80).map(|_| UnixStream::connect(lan.socket(1)).unwrap()).collect();
    let answered = open.iter_mut().filter_map(|stream| ask(stream).then_some(())).count();
    // The test's own client has one of the 64.
    assert!((60..=64).contains(&answered), "{answered}");
    drop(open);
    crate::support::eventually("closed ones make room", || {
        ask(&mut UnixStream::connect(lan.socket(1)).unwrap()).then_some(())
    });
}
