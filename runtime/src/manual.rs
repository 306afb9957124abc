//! What a program tells of itself to shells and to `man`, from its own command line.

mod page;

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::terminal;

/// What the command line does not know of a program.
#[derive(Debug, Clone, Copy)]
pub struct Manual {
    /// The section of its pages: `1`, or `8` for what administrators run.
    pub section: &'static str,
    /// Files that it reads or writes, each with what is in it.
    pub files: &'static [(&'static str, &'static str)],
    /// Other pages, each with its section.
    pub see_also: &'static [(&'static str, &'static str)],
}

/// The commands that every program has.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ManualCommand {
    /// Print a script that completes this program's command line in a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the man pages of this program and its commands to a directory
    #[command(hide = true)]
    Man {
        /// The directory, which is there already
        dir: PathBuf,
    },
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// The Bourne again shell.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

impl ManualCommand {
    /// Does what was typed; `program` is the whole command line.
    pub fn run(&self, program: Command, manual: &Manual) -> io::Result<()> {
        match self {
            Self::Completion { shell } => terminal::print(&completion(program, *shell)),
            Self::Man { dir } => write_pages(program, manual, dir),
        }
    }
}

/// The script that completes `program` in `shell`.
pub fn completion(mut program: Command, shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn write_pages(program: Command, manual: &Manual, dir: &Path) -> io::Result<()> {
    for (name, text) in page::all(program, manual)? {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| {
            io::Error::new(error.kind(), format!("{} cannot be written: {error}", path.display()))
        })?;
    }
    Ok(())
}
