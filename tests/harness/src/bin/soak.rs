//! `make soak`: see `taskwatch_harness::soak`.

use std::process::ExitCode;
use std::time::Duration;

use taskwatch_harness::{interrupt, soak};

const USAGE: &str = "usage: taskwatch-soak [--seed N] [--seconds N] [--watches N] [--flood N] [--remove-crd] [--quiet]";

fn options() -> Option<soak::Options> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (mut seconds, mut limit, mut flood) = (600, 180, None);
    let mut options = soak::Options {
        seed: clock.as_secs(),
        storm: Duration::ZERO,
        limit: Duration::ZERO,
        watches: 300,
        flood: 0,
        remove_crd: false,
        verbose: true,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--remove-crd" => options.remove_crd = true,
            "--quiet" => options.verbose = false,
            name => {
                let value = arguments.next()?.parse().ok()?;
                match name {
                    "--seed" => options.seed = value,
                    "--seconds" => seconds = value,
                    "--watches" => options.watches = value,
                    "--limit" => limit = value,
                    "--flood" => flood = Some(value),
                    _ => return None,
                }
            }
        }
    }
    (options.storm, options.limit) = (Duration::from_secs(seconds), Duration::from_secs(limit));
    // What takes its time belongs to the long form.
    let is_long = seconds >= 300;
    options.flood = flood.unwrap_or(if is_long { 2000 } else { 0 });
    options.remove_crd |= is_long;
    Some(options)
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("soak: seed {}, {} s of faults", options.seed, options.storm.as_secs());
    let outcome = tokio::select! {
        outcome = soak::run(options) => outcome,
        _ = interrupt() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(report) => {
            report.summary.iter().for_each(|line| println!("{line}"));
            report.findings.iter().for_each(|line| println!("{line}"));
            if report.findings.is_empty() {
                println!("seed {}: no finding", options.seed);
                return ExitCode::SUCCESS;
            }
            println!("seed {}: FAILED", options.seed);
        }
        Err(error) => println!("seed {}: the soak could not go on: {error:#}", options.seed),
    }
    ExitCode::FAILURE
}
