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

/// Part of this program runs beside it as a process of its own.
fn witness() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == attacks::WITNESS).then(|| arguments.next().map(PathBuf::from))?
}

fn main() -> ExitCode {
    if let Some(kubeconfig) = witness() {
        return run_witness(kubeconfig);
    }
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

fn run_witness(kubeconfig: PathBuf) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(attacks::testify(kubeconfig))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the witness cannot begin: {error:#}");
            ExitCode::FAILURE
        }
    }
}
