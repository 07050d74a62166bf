//! A DNS resolver that drops hostile queries in the kernel: hickory-server on sockets that `ebpf-filter` guards.
//!
//! This file is the way in and the way out: it reads the command line, runs the command, and turns an error into a
//! message and an exit code.

#![forbid(unsafe_code)]

mod cached;
mod cli;
mod config;
mod dynblocks;
mod error;
mod filter;
mod forward;
mod in_flight;
mod listeners;
mod logging;
mod serve;
mod signals;
mod sockets;
mod zones;

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    config::Config,
    error::Error,
    zones::Zone,
};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            error.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    match cli.chosen() {
        Command::Serve => {
            logging::init()?;
            let config = match &cli.config {
                Some(file) => Config::load(file)?,
                None => Config::default(),
            };
            serve::serve(&config)
        }
        Command::CheckConfig { file } => check_config(cli.file_to_check(file.as_deref())),
    }
}

/// Reads everything that `serve` would read, opens nothing that it would open.
fn check_config(file: &Path) -> Result<(), Error> {
    let config = Config::load(file)?;
    let zones = Zone::load_all(&config.zones)?;
    let records: usize = zones.iter().map(Zone::record_count).sum();
    let upstreams = config.forward.as_ref().map_or(0, |forward| forward.upstreams.len());
    let dynblocks = config.dynblocks.as_ref().map_or(0, |dynblocks| dynblocks.rules.len());
    println!(
        "{}: ok; addresses: {}; zones: {}, records: {records}; upstreams: {upstreams}; {}; dynamic block rules: {dynblocks}",
        file.display(),
        config.listen.addresses.len(),
        zones.len(),
        config.filter.rules,
    );
    Ok(())
}
