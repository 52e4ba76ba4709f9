//! The `taskwatch` program.

mod commands;

use std::process::ExitCode;

use anyhow::{Context, Result};
use taskwatch::{
    ops::{
        args::{Cli, Command},
        guard, telemetry,
    },
    providers::registry,
};
#[cfg(target_os = "linux")]
use tikv_jemallocator::Jemalloc;

/// The same one with every C library, musl's too. What it keeps for later is set where it is built: `.cargo/config.toml`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // A usage error ends the process here, with exit code 2.
    let command = Cli::parse_naming(&registry::names()).command;
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
            guard::install();
            // The work is waiting: a second thread costs more in waking each other than it gives.
            let mut runtime = match args.threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            if args.threads > 1 {
                runtime.worker_threads(usize::from(args.threads));
            }
            let runtime = runtime.enable_all().build().context("cannot start the asynchronous runtime")?;
            runtime.block_on(commands::run(*args))
        }
        Command::Crds(args) => commands::crds(&args),
        Command::Decode(args) => commands::decode(&args),
        Command::Version => {
            println!("taskwatch {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
