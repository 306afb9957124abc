//! A man page for a program and for each of its commands.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::Manual;

/// How the text after a command's help begins when it tells its exit codes.
const EXIT_CODES: &str = "Exit codes:";
/// What every command that does not say otherwise ends with.
const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "It was done."),
    ("1", "It failed; standard error says why."),
    ("2", "The command line is wrong."),
];

/// The pages of `program` and of all its commands that are shown: file names and contents.
pub(super) fn all(program: Command, manual: &Manual) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, None, manual, &mut pages)?;
    Ok(pages)
}

fn add(
    command: &Command,
    parent: Option<&str>,
    manual: &Manual,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> io::Result<()> {
    let name = name(command);
    pages.push((format!("{name}.{}", manual.section), page(command, parent, manual)?));
    for sub in shown(command) {
        add(sub, Some(name), manual, pages)?;
    }
    Ok(())
}

fn page(command: &Command, parent: Option<&str>, manual: &Manual) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .section(manual.section)
        .date(crate::version::date().unwrap_or("development"))
        .source(format!("Knit {}", crate::version::version()))
        .manual("Knit");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if shown(command).next().is_some() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    exit_status(&mut roff, command);
    if !manual.files.is_empty() && parent.is_none() {
        files(&mut roff, manual);
    }
    see_also(&mut roff, command, parent, manual);
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn exit_status(roff: &mut Roff, command: &Command) {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own: Vec<(&str, &str)> = after
        .strip_prefix(EXIT_CODES)
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.trim().split_once(' '))
        .collect();
    let codes = if own.is_empty() { &EXIT_STATUS[..] } else { &own[..] };
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in codes {
        roff.control("TP", []);
        roff.text([bold(*code)]);
        roff.text([roman(meaning.trim())]);
    }
}

fn files(roff: &mut Roff, manual: &Manual) {
    roff.control("SH", ["FILES"]);
    for (path, what) in manual.files {
        roff.control("TP", []);
        roff.text([italic(*path)]);
        roff.text([roman(*what)]);
    }
}

/// The pages above and below, then other programs'.
fn see_also(roff: &mut Roff, command: &Command, parent: Option<&str>, manual: &Manual) {
    let below = shown(command).map(|sub| (name(sub), manual.section));
    let others = manual.see_also.iter().copied().filter(|_| parent.is_none());
    let above = parent.into_iter().map(|name| (name, manual.section));
    let pages: Vec<(&str, &str)> = above.chain(below).chain(others).collect();
    if pages.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (page, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(page), roman(format!("({section})"))]);
    }
    roff.text(line);
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

#[cfg(test)]
mod tests {
    use clap::{Arg, CommandFactory as _};

    use super::*;

    const MANUAL: Manual = Manual {
        section: "8",
        files: &[("/etc/knit/sample.toml", "What it is told.")],
        see_also: &[("other", "1")],
    };

    #[derive(clap::Parser)]
    struct Nothing {
        #[command(subcommand)]
        _command: super::super::ManualCommand,
    }

    fn pages() -> Vec<(String, String)> {
        let sample = Command::new("sample")
            .about("Does things")
            .subcommand(
                Command::new("node").about("Nodes").subcommand(
                    Command::new("add")
                        .about("Adds one")
                        .arg(Arg::new("x").long("x").env("SAMPLE_X").help("Said with 'quotes'"))
                        .after_help("Exit codes:\n  0  all is well\n  7  it waits"),
                ),
            )
            .subcommands(Nothing::command().get_subcommands().cloned());
        let pages = all(sample, &MANUAL).unwrap().into_iter();
        pages.map(|(name, text)| (name, String::from_utf8(text).unwrap())).collect()
    }

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let names: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        let all = ["sample.8", "sample-node.8", "sample-node-add.8", "sample-completion.8"];
        assert_eq!(names, all);
    }

    #[test]
    fn a_page_says_what_the_command_line_does_not() {
        let pages = pages();
        let (top, add) = (&pages[0].1, &pages[2].1);
        assert!(top.contains("/etc/knit/sample.toml"), "{top}");
        assert!(top.contains("\\fBsample\\-node\\fR(8), "), "{top}");
        assert!(top.contains("\\fBother\\fR(1)"), "{top}");
        assert!(top.contains("\\fB2\\fR\nThe command line is wrong."), "{top}");
        assert!(add.contains("\\fB7\\fR\nit waits"), "{add}");
        assert!(add.contains("SAMPLE_X") && !add.contains("EXTRA"), "{add}");
        assert!(add.contains("\\fBsample\\-node\\fR(8)"), "{add}");
    }
}
