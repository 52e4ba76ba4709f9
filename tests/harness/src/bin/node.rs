//! `make test-node` and `make cluster NODE=1`: see `taskwatch_harness::node`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use taskwatch_harness::node::{Inside, Task, enter, over, run};

const USAGE: &str = "usage: taskwatch-node --stay RELEASE | taskwatch-node RELEASE [RELEASE BEFORE IT]";

fn task() -> Option<Task> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--stay", release] => Some(Task::Stay(std::path::absolute(release).ok()?)),
        [release, before @ ..] if !release.starts_with('-') && before.len() < 2 => {
            let before = before.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>().ok()?;
            Some(Task::Check { release: std::path::absolute(release).ok()?, before: before.into_iter().next() })
        }
        _ => None,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(task) = task() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match play(task).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(task: Task) -> Result<ExitCode> {
    let Some(inside) = Inside::current() else {
        ensure!(rustix::process::geteuid().is_root(), "only root can make a node");
        // Whoever has it stay up ends it so.
        return enter(if matches!(task, Task::Stay(_)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }).await;
    };
    tokio::select! {
        ran = run(task, &inside) => ran.map(|()| ExitCode::SUCCESS),
        () = over() => Ok(ExitCode::FAILURE),
    }
}
