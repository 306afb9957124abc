//! Runs the script on the other host, and shows its steps.
//!
//! What a shell there is told is one line without a secret: to take the script from its standard
//! input and to run it. The script reads the rest.

use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail, ensure};
use knit_rpc::join::JoinToken;
use knit_runtime::child::describe_exit;
use knit_runtime::ssh::{Master, Target};
use knit_runtime::terminal::{eprintln, printable};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, Command};

use super::programs::Programs;
use crate::dev::Progress;

/// What the script prints before a step, and before what went wrong.
const STEP: &str = "==> ";
const ERROR: &str = "error: ";
/// What it prints at most that is no step.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What goes behind the script.
#[derive(Default)]
pub(super) struct Input {
    pub(super) secret: String,
    pub(super) token: Option<JoinToken>,
    pub(super) programs: Option<Programs>,
}

/// The script on a host.
pub(super) struct Remote<'a> {
    ssh: &'a Master,
    host: &'a Target,
    script: &'a str,
    progress: &'a Progress,
}

/// How a run of the script ended.
#[derive(Default)]
struct Told {
    step: String,
    error: Option<String>,
    last: String,
}

impl<'a> Remote<'a> {
    pub(super) fn new(
        ssh: &'a Master,
        host: &'a Target,
        script: &'a str,
        progress: &'a Progress,
    ) -> Self {
        Self { ssh, host, script, progress }
    }

    /// Runs the script with these arguments, which no shell reads otherwise; its standard output.
    pub(super) async fn run(&self, arguments: &[String], input: Input) -> anyhow::Result<String> {
        let mut command = self.ssh.command(&line(self.script.len(), arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("ssh cannot be started")?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("ssh has no standard streams");
        };
        let mut answer = String::new();
        let mut stdout = stdout.take(ANSWER_BYTES_MAX);
        // A script that gives up does not read the rest: that is no error of ours.
        let (_, read, told) = tokio::join!(
            self.send(stdin, input),
            stdout.read_to_string(&mut answer),
            self.relay(stderr),
        );
        let status = child.wait().await.context("ssh could not be waited for")?;
        read.context("the host's answer could not be read")?;
        if status.success() {
            return Ok(answer);
        }
        bail!("{}", failure(self.host, &told, status))
    }

    async fn send(&self, mut stdin: ChildStdin, input: Input) -> anyhow::Result<()> {
        stdin.write_all(self.script.as_bytes()).await?;
        let token = input.token.map(|token| token.expose()).unwrap_or_default();
        stdin.write_all(format!("{}\n{token}\n", input.secret).as_bytes()).await?;
        if let Some(Programs { directory, files }) = input.programs {
            let mut tar = Command::new("tar");
            tar.args(["-c", "-h", "-C"]).arg(directory).arg("--").args(files);
            tar.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut tar = tar.spawn().context("tar cannot be started")?;
            let mut archive = tar.stdout.take().context("tar has no output")?;
            tokio::io::copy(&mut archive, &mut stdin).await?;
            ensure!(tar.wait().await?.success(), "tar failed");
        }
        stdin.shutdown().await?;
        Ok(())
    }

    /// Shows what the script says.
    async fn relay(&self, stderr: ChildStderr) -> Told {
        let mut told = Told::default();
        // Not every program over there speaks UTF-8.
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = printable(&String::from_utf8_lossy(&line));
            if let Some(step) = line.strip_prefix(STEP) {
                self.progress.step(step);
                step.clone_into(&mut told.step);
            } else if let Some(error) = line.strip_prefix(ERROR) {
                told.error = Some(error.to_owned());
            } else {
                eprintln(&format!("         {line}"));
                line.clone_into(&mut told.last);
            }
        }
        told
    }
}

/// What the other host's shell is told: whatever shell it is, this is read the same.
fn line(script_bytes: usize, arguments: &[String]) -> String {
    format!(
        "sh -c 'S=; [ \"$(id -u)\" -eq 0 ] || S=\"sudo -n\"; \
         exec $S sh -c \"eval \\\"\\$(head -c {script_bytes})\\\"\" join \"$@\"' join {}",
        arguments.join(" ")
    )
}

fn failure(host: &Target, told: &Told, status: ExitStatus) -> String {
    if told.last.starts_with("sudo:") && told.step.is_empty() {
        return format!(
            "{host}: this user is not root there, and sudo wants a password: log in as root, or \
             let sudo run without one (NOPASSWD in /etc/sudoers.d)"
        );
    }
    let what = told.error.clone().unwrap_or_else(|| match status.code() {
        Some(255) => "the connection broke; it can be added again".to_owned(),
        Some(_) | None => format!("it ended with {}", describe_exit(status)),
    });
    if told.step.is_empty() {
        return format!("{host}: {what}");
    }
    format!("{host}, while {}: {what}", told.step)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_shell_runs_the_script_and_leaves_it_the_rest_of_its_input() {
        let script = "IFS= read -r first; echo \"$1 $first\"; cat";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &line(script.len(), &["--check".to_owned()])])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("{script}one\ntwo\n").as_bytes()).unwrap();
        drop(stdin);
        let output = shell.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "--check one\ntwo\n");
    }

    #[test]
    fn a_failure_names_the_host_the_step_and_why() {
        let host = Target::parse("deploy@fra-1").unwrap();
        let told = |step: &str, error: Option<&str>, last: &str| Told {
            step: step.to_owned(),
            error: error.map(ToOwned::to_owned),
            last: last.to_owned(),
        };
        let text = |told: &Told, code: i32| failure(&host, told, ExitStatus::from_raw(code << 8));
        let wants = text(&told("", None, "sudo: a password is required"), 1);
        assert!(wants.contains("NOPASSWD"), "{wants}");
        let docker = text(&told("asking Docker", Some("Docker does not answer"), ""), 1);
        assert_eq!(docker, "deploy@fra-1, while asking Docker: Docker does not answer");
        assert!(text(&told("joining the mesh", None, ""), 255).contains("the connection broke"));
    }
}
