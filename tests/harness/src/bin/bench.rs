//! `make bench`: see `taskwatch_harness::bench`.

use std::process::ExitCode;

use anyhow::Result;
use taskwatch_harness::bench::{Options, floor, run};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let done = match arguments.split_first() {
        // The floors are programs of their own, so that their processor time is theirs alone; of one thread, as the operator is.
        Some((first, rest)) if first == "floor" => {
            run_on(&mut Builder::new_current_thread(), floor::main(rest)).map(|()| true)
        }
        _ => match Options::parse(&arguments) {
            Ok(options) => run_on(&mut Builder::new_multi_thread(), run(options)),
            Err(usage) => {
                eprintln!("{usage}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nThe benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_on<T>(runtime: &mut Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime.enable_all().build()?.block_on(work)
}
