//! The `taskwatch` program.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
use tikv_jemallocator::Jemalloc;

/// The same one with every C library, musl's too. What it keeps for later is set where it is built: `.cargo/config.toml`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match taskwatch::commands::execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` is the whole chain of causes in one line.
            eprintln!("taskwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
