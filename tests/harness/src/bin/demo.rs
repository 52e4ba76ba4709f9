//! `make demo`: see `taskwatch_harness::demo`.

use std::process::ExitCode;

use taskwatch_harness::demo::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--once" => options.once = true,
            "--current-cluster" => options.current_cluster = true,
            _ => {
                eprintln!("usage: taskwatch-demo [--once] [--current-cluster]");
                return ExitCode::from(2);
            }
        }
    }
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
