//! The command line.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

/// A DNS resolver whose sockets drop blocked sources and names in the kernel.
///
/// Without a configuration it serves an embedded zone on port 5300 of localhost (IPv4 and IPv6, UDP and TCP):
/// `dig @127.0.0.1 -p 5300 www.example`.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Read the configuration from FILE (TOML; config.example.toml lists every key)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Logs go to standard error; RUST_LOG sets what is logged (for example RUST_LOG=debug).
SIGINT or SIGTERM stops the server once the queries in flight are answered; a second one stops it at once.
Exit codes: 0 stopped on request, 1 the server could not start or go on, 2 wrong usage or configuration.";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Serve DNS until SIGINT or SIGTERM (the default)
    Serve,
    /// Check a configuration and its zone files, without side effects
    CheckConfig {
        /// The configuration to check; may be given with --config instead
        file: Option<PathBuf>,
    },
}

impl Cli {
    /// The command to run: `serve` when none is given.
    pub(crate) fn chosen(&self) -> &Command {
        self.command.as_ref().unwrap_or(&Command::Serve)
    }

    /// The one file that `check-config` is about; ends the program with a usage message unless there is exactly one.
    pub(crate) fn file_to_check<'a>(&'a self, positional: Option<&'a Path>) -> &'a Path {
        match (positional, self.config.as_deref()) {
            (Some(file), None) | (None, Some(file)) => file,
            (Some(_), Some(_)) => usage(
                ErrorKind::ArgumentConflict,
                "check-config takes one file: give it either as FILE or with --config",
            ),
            (None, None) => usage(
                ErrorKind::MissingRequiredArgument,
                "check-config needs a file to check: resolver-example check-config FILE",
            ),
        }
    }
}

fn usage(kind: ErrorKind, message: &str) -> ! {
    Cli::command().error(kind, message).exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        let cli = Cli::try_parse_from(["resolver-example"]).unwrap();
        assert_eq!(cli.chosen(), &Command::Serve);
        assert_eq!(cli.config, None);
    }

    #[test]
    fn config_is_accepted_before_and_after_the_command() {
        for args in [
            ["resolver-example", "--config", "a.toml", "serve"],
            ["resolver-example", "serve", "--config", "a.toml"],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert_eq!(cli.config.as_deref(), Some(Path::new("a.toml")));
            assert_eq!(cli.chosen(), &Command::Serve);
        }
    }

    #[test]
    fn check_config_takes_its_file_either_way() {
        for args in [
            ["resolver-example", "check-config", "a.toml", ""],
            ["resolver-example", "check-config", "--config", "a.toml"],
        ] {
            let cli = Cli::try_parse_from(args.iter().filter(|arg| !arg.is_empty())).unwrap();
            let Command::CheckConfig { file } = cli.chosen() else { panic!("{cli:?}") };
            assert_eq!(cli.file_to_check(file.as_deref()), Path::new("a.toml"));
        }
    }
}
