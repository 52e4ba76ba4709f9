//! `make bench`: what the operator costs, each figure beside what the same work costs without it, from the same run.
//!
//! The real binary against a real API server (as an ordinary service account, so that priority and fairness applies), and the
//! simulator as a process of its own. Nothing asserts a time: `CHECK=1` compares ratios with those of
//! `tests/harness/bench-baseline.json`.
//!
//! | module | what it does |
//! |---|---|
//! | [`floor`] | the same work without an operator |
//! | `stage` | the processes of a scenario, and what a stretch of time costs |
//! | `fleet` | many watches |
//! | `lists` | one account, served by lists: idle, B4, B1, B3, B5, B6, memory |
//! | `discovery` | sets: B10, B11 |
//! | `gets` | single requests: B2, B7, B9 |
//! | `scale` | many connections: B8 |
//! | `replicas` | several replicas: B12 |
//! | `report` | table, JSON, comparison |

pub mod floor;

mod discovery;
mod fleet;
mod gets;
mod lag;
mod lists;
mod replicas;
mod report;
mod scale;
mod stage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

pub(crate) use fleet::METADATA_ONLY;

use crate::workspace_root;
use report::Report;

const SCENARIOS: &[&str] =
    &["idle", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "memory"];

/// What is measured, and how long.
#[derive(Clone, Debug, Default)]
pub struct Options {
    quick: bool,
    check: bool,
    record: bool,
    only: Vec<String>,
    tasks: Option<usize>,
    /// The operator that is measured; that of this build where none is given.
    operator: Option<PathBuf>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// When it cannot be understood; with the usage.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let usage = || {
            let all = SCENARIOS.join(",");
            format!(
                "usage: taskwatch-bench [--quick] [--check] [--record] [--operator FILE] [--tasks N] [--only {all}]"
            )
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--check" => options.check = true,
                "--record" => options.record = true,
                "--operator" => options.operator = Some(arguments.next().ok_or_else(usage)?.into()),
                "--tasks" => {
                    options.tasks = Some(arguments.next().and_then(|n| n.parse().ok()).ok_or_else(usage)?);
                }
                "--only" => {
                    options.only = arguments.next().ok_or_else(usage)?.split(',').map(str::to_owned).collect();
                    if options.only.iter().any(|name| !SCENARIOS.contains(&name.as_str())) {
                        return Err(usage());
                    }
                }
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }

    /// How many tasks B1 to B6, B10, each account of B11, and B12 have.
    fn tasks(&self) -> usize {
        self.tasks.unwrap_or(if self.quick { 2_000 } else { 10_000 })
    }

    fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario)
    }

    fn wants_any(&self, scenarios: &[&str]) -> bool {
        scenarios.iter().any(|scenario| self.wants(scenario))
    }

    /// The shorter time in quick runs.
    fn pick(&self, quick: u64, full: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { full })
    }

    fn mode(&self) -> String {
        format!("{}-{}", if self.quick { "quick" } else { "full" }, self.tasks())
    }
}

/// Measures; whether the comparison, where one was asked for, found nothing worse.
///
/// # Errors
/// When a scenario cannot be played; what was measured until then is still printed and written.
pub async fn run(options: Options) -> Result<bool> {
    let started = Instant::now();
    let mut report = Report::default();
    let played = play(&options, &mut report).await;
    let table = report.table();
    println!("\n{table}");
    let directory = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), Into::into);
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("bench.json");
    std::fs::write(&path, format!("{:#}\n", report.json(&options.mode())))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} s; the same as JSON: {}", started.elapsed().as_secs(), path.display());
    played?;
    if options.record {
        report.record(&options.mode())?;
    }
    if !options.check {
        return Ok(true);
    }
    let worse = report.compare(&options.mode())?;
    println!("\nCompared with the recorded ratios, of which {:.0} % more is allowed:", report::MARGIN * 100.0);
    for line in &worse {
        println!("  WORSE {line}");
    }
    println!("  {}", if worse.is_empty() { "none is worse" } else { "this is a regression, or a very busy machine" });
    Ok(worse.is_empty())
}

async fn play(options: &Options, report: &mut Report) -> Result<()> {
    ensure!(cfg!(not(debug_assertions)), "measure what is released: build with --release, as `make bench` does");
    let list_scenarios = ["idle", "B4", "B1", "B3", "B5", "B6", "memory"];
    if options.wants_any(&list_scenarios) {
        lists::play(options, report).await.context("the scenarios of one account")?;
    }
    if options.wants("B2") {
        gets::jobs(options, report).await.context("B2")?;
    }
    if options.wants("B7") {
        gets::slow_neighbour(options, report).await.context("B7")?;
    }
    if options.wants("B9") {
        gets::overload(options, report).await.context("B9")?;
    }
    if options.wants("B8") {
        scale::play(options, report).await.context("B8")?;
    }
    if options.wants("B10") {
        discovery::set(options, report).await.context("B10")?;
    }
    if options.wants("B11") {
        discovery::accounts(options, report).await.context("B11")?;
    }
    if options.wants("B12") {
        replicas::play(options, report).await.context("B12")?;
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n==> {text}");
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Bytes in MB.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
