use super::*;

use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> ChildSpec {
    ChildSpec::new("sample", "/bin/sh").args(["-c", script])
}

async fn running(state: &mut watch::Receiver<SupervisedState>) -> u32 {
    let running = |state: &SupervisedState| matches!(state, SupervisedState::Running { .. });
    let state = tokio::time::timeout(PATIENCE, state.wait_for(running)).await.unwrap().unwrap();
    let SupervisedState::Running { pid } = *state else { unreachable!() };
    pid
}

fn alive(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
}

#[tokio::test]
async fn the_last_lines_of_both_streams_are_there_after_the_exit() {
    let child = Child::spawn(shell("seq 1 200; echo broken >&2; exit 3")).await.unwrap();
    assert_eq!(describe_exit(child.wait().await), "exit code 3");
    let lines = child.last_lines();
    assert_eq!(lines.len(), LAST_LINES_MAX);
    assert!(lines.contains(&"200".to_owned()) && lines.contains(&"broken".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn a_log_file_gets_all_lines_and_long_ones_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("sample.log");
    let spec = shell("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end").log_file(&log);
    Child::spawn(spec).await.unwrap().wait().await;
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches('x').count(), 40_000);
    assert_eq!(text.lines().last(), Some("end"));
}

#[tokio::test]
async fn a_deaf_child_is_killed_after_its_grace() {
    let child =
        Child::spawn(shell("trap '' TERM; echo up; while :; do sleep 1; done")).await.unwrap();
    while child.last_lines().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = child.stop(Duration::from_millis(100)).await;
    assert_eq!(describe_exit(status), "killed by SIGKILL");
}

#[tokio::test]
async fn a_missing_program_is_said_by_name() {
    let error = Child::spawn(ChildSpec::new("bus", "/nonexistent/nats-server")).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start bus (/nonexistent/nats-server)");
}

#[tokio::test]
async fn a_dropped_child_dies() {
    let child = Child::spawn(shell("sleep 1000")).await.unwrap();
    let pid = child.pid();
    drop(child);
    tokio::time::timeout(PATIENCE, async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the child is still there");
}

#[tokio::test]
async fn a_child_started_by_a_short_lived_thread_lives_on() {
    let runtime = tokio::runtime::Handle::current();
    let spawn = move || runtime.block_on(Child::spawn(shell("sleep 1000")));
    let child = std::thread::spawn(spawn).join().unwrap().unwrap();
    let died = tokio::time::timeout(Duration::from_millis(300), child.wait()).await;
    assert!(died.is_err(), "the death of the thread killed the child");
    child.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_supervised_child_comes_back_until_cancelled() {
    let cancel = CancellationToken::new();
    let policy = Policy { backoff_min: Duration::from_millis(20), ..Policy::default() };
    let supervised = Supervised::start(shell("echo hello; sleep 1000"), policy, cancel.clone());
    let mut state = supervised.state();

    let first = running(&mut state).await;
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    let backing_off = |state: &SupervisedState| matches!(state, SupervisedState::BackingOff { .. });
    let seen =
        tokio::time::timeout(PATIENCE, state.wait_for(backing_off)).await.unwrap().unwrap().clone();
    let SupervisedState::BackingOff { why, .. } = seen else { unreachable!() };
    assert_eq!(why, "killed by SIGKILL");
    let second = running(&mut state).await;
    assert_ne!(first, second);

    cancel.cancel();
    supervised.stopped().await;
    assert_eq!(*state.borrow(), SupervisedState::Stopped);
    assert!(!alive(second));
}

#[tokio::test]
async fn a_replaced_child_runs_as_the_new_one() {
    let cancel = CancellationToken::new();
    let supervised = Supervised::start(shell("sleep 1000"), Policy::default(), cancel.clone());
    let mut state = supervised.state();
    let first = running(&mut state).await;
    supervised.replace(shell("sleep 2000")).await;
    tokio::time::timeout(PATIENCE, state.wait_for(|state| *state == SupervisedState::Starting))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(running(&mut state).await, first);
    cancel.cancel();
    supervised.stopped().await;
}
