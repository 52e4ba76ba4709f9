//! The `taskwatch` program.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use taskwatch::ops::{
    args::{Cli, Command, CrdsArgs, DecodeArgs, RunArgs},
    telemetry,
};

fn main() -> ExitCode {
    // A usage error ends the process here, with exit code 2.
    let command = Cli::parse().command;
    match dispatch(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` is the whole chain of causes in one line.
            eprintln!("taskwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => {
            // An error means that there is one already, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
            telemetry::init(args.log_format, &args.log_level)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(usize::from(args.threads))
                .enable_all()
                .build()
                .context("cannot start the asynchronous runtime")?;
            runtime.block_on(run(*args))
        }
        Command::Crds(args) => crds(&args),
        Command::Decode(args) => decode(&args),
        Command::Version => {
            println!("taskwatch {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

// TODO(wire): the three below are replaced by the real functions.
#[allow(clippy::unused_async)]
async fn run(_: RunArgs) -> Result<()> {
    bail!("`run` is not wired yet")
}
fn crds(_: &CrdsArgs) -> Result<()> {
    bail!("`crds` is not wired yet")
}
fn decode(_: &DecodeArgs) -> Result<()> {
    bail!("`decode` is not wired yet")
}
