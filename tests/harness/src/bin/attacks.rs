//! `make test-attacks`: see `taskwatch_harness::attacks`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use taskwatch_harness::{attacks, interrupt, workspace_root};

const USAGE: &str = "usage: taskwatch-attacks [--operator FILE] [--only NAME,…] [--together SECONDS] [--list]";

fn options() -> Option<attacks::Options> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    let program = target.join("release/taskwatch");
    let mut options = attacks::Options { program, only: Vec::new(), together: Duration::from_secs(120) };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => {
                for (finding, name, what) in attacks::names() {
                    println!("{finding:<4} {name:<22} {what}");
                }
                std::process::exit(0);
            }
            "--operator" => options.program = PathBuf::from(arguments.next()?),
            "--only" => options.only = arguments.next()?.split(',').map(str::to_owned).collect(),
            "--together" => options.together = Duration::from_secs(arguments.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Err(error) = attacks::enter() {
        println!(
            "No network of its own can be made ({error:#}): attacks that need one are not tried, which counts as failed."
        );
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("there is no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = attacks::run(options) => outcome,
            _ = interrupt() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    match outcome {
        Ok(report) => {
            println!("\n{}", report.text());
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the attacks could not go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}
