//! Logs: to stderr, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Modules that at debug level write down all that they send, whatever is asked for: what goes to
/// Docker has the containers' variables in it.
const QUIET: &str = "bollard=info,bollard::docker=info,bollard::read=info,bollard::uri=info";

/// How a program logs; flatten it into its arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, value_enum, default_value_t, global = true, env = "KNIT_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or filters such as `info,knit_agent=debug`
    #[arg(long, global = true, env = "KNIT_LOG", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Human,
    /// One JSON object per event.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none, and no list of filters either.
    #[error(
        "`{level}` is no log level: use error, warn, info, debug, trace, or filters such as `info,knit_agent=debug`"
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// There is a logger already.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging to stderr; a daemon says `info` unless told otherwise.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    init_or(args, "info")
}

/// As [`init`], with another level for when none was given.
pub fn init_or(args: &LogArgs, default_level: &str) -> Result<(), LogError> {
    let filter = filter(args.log_level.as_deref().unwrap_or(default_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match args.log_format {
        LogFormat::Human => {
            let colour = crate::terminal::colour_wanted(std::io::stderr().is_terminal());
            builder.with_ansi(colour).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LogError::Twice)
}

/// Parses a level or a list of filters; an unknown word is refused, not taken for a module.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refused = || LogError::Level { level: level.to_owned() };
    let filters = level.replace(' ', "");
    for directive in filters.split(',') {
        let word = directive.rsplit('=').next().unwrap_or(directive);
        let level = word.parse::<tracing_subscriber::filter::LevelFilter>();
        if word.is_empty() || level.is_err() {
            return Err(refused());
        }
    }
    // The last word on a module holds.
    EnvFilter::try_new(format!("{filters},{QUIET}")).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_understood() {
        for level in ["info", "DEBUG", "off", "info,knit_agent=debug", "warn, knit_server=trace"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["verbose", "", "info,loud", "knit_agent=much"] {
            let error = filter(level).expect_err(level).to_string();
            assert!(error.starts_with(&format!("`{level}` is no log level")), "{error}");
        }
    }

    #[test]
    fn what_writes_down_all_that_it_sends_is_kept_quiet() {
        for asked in ["debug", "trace", "bollard=trace", "info,bollard::docker=debug"] {
            let shown = filter(asked).unwrap().to_string();
            for module in ["bollard", "bollard::docker"] {
                let levels: Vec<&str> = shown
                    .split(',')
                    .filter_map(|directive| directive.strip_prefix(&format!("{module}=")))
                    .collect();
                assert_eq!(levels, ["info"], "{asked}: {shown}");
            }
        }
    }

    #[test]
    fn the_arguments_are_sound() {
        #[derive(clap::Parser)]
        struct Sample {
            #[command(flatten)]
            log: LogArgs,
        }
        <Sample as clap::CommandFactory>::command().debug_assert();
        let sample = <Sample as clap::Parser>::parse_from([
            "x",
            "--log-format",
            "json",
            "--log-level",
            "warn",
        ]);
        assert_eq!(sample.log.log_format, LogFormat::Json);
        assert_eq!(sample.log.log_level.as_deref(), Some("warn"));
    }
}
