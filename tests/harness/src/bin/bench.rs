//! `make bench`: see `taskwatch_harness::bench`.

use std::process::ExitCode;

use taskwatch_harness::bench::{Options, floor, run};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let done = match arguments.split_first() {
        // The floors are programs of their own, so that their processor time is theirs alone.
        Some((first, rest)) if first == "floor" => floor::main(rest).await.map(|()| true),
        _ => match Options::parse(&arguments) {
            Ok(options) => run(options).await,
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
