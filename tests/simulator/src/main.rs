//! The simulator as a program. See the crate's README.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Parser};
use taskwatch_simulator::{Config, DEMO, Simulator};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Speaks the task APIs of Cloud.ru Managed OpenShift, Huawei Cloud EVS and NetApp Astra Control, so that pipelines can be tried
/// without an account. Prints one line of JSON when it listens; `GET /_admin/` lists what it can be told.
#[derive(Debug, Parser)]
#[command(version, group(ArgGroup::new("https").args(["tls", "tls_listen"]).multiple(true)))]
#[allow(clippy::struct_excessive_bools)] // flags are
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "TASKWATCH_SIMULATOR_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Let --listen be an address that other machines can reach. The admin calls ask for no password.
    #[arg(long, env = "TASKWATCH_SIMULATOR_ALLOW_NON_LOOPBACK")]
    allow_non_loopback: bool,

    /// Speak HTTPS, with a certificate of a CA that is made at start.
    #[arg(long, env = "TASKWATCH_SIMULATOR_TLS")]
    tls: bool,

    /// Listen here too, with HTTPS, while --listen speaks HTTP.
    #[arg(long, env = "TASKWATCH_SIMULATOR_TLS_LISTEN", value_name = "ADDRESS")]
    tls_listen: Option<SocketAddr>,

    /// Where to write that CA (PEM); it is also at /_admin/ca.pem.
    #[arg(long, env = "TASKWATCH_SIMULATOR_CA_FILE", value_name = "FILE", requires = "https")]
    ca_file: Option<PathBuf>,

    /// The file with the CA's key, made when it is not there: with it, the CA is the same at the next start.
    #[arg(long, env = "TASKWATCH_SIMULATOR_CA_KEY", value_name = "FILE", requires = "https")]
    ca_key: Option<PathBuf>,

    /// A name or address in the certificate (repeatable) [default: localhost and the address listened on].
    #[arg(long, env = "TASKWATCH_SIMULATOR_TLS_NAMES", value_name = "NAME", value_delimiter = ',', requires = "https")]
    tls_name: Vec<String>,

    /// Use a certificate that ended in 2020, to see clients refuse it.
    #[arg(long, env = "TASKWATCH_SIMULATOR_TLS_EXPIRED", requires = "https")]
    tls_expired: bool,

    /// What exists and how it moves: a JSON file, or the word `demo` for the one that is built in.
    #[arg(long, env = "TASKWATCH_SIMULATOR_SCENARIO", value_name = "FILE")]
    scenario: Option<String>,

    /// Seed of everything that looks random (tokens, faults that hit a share of the requests).
    #[arg(long, env = "TASKWATCH_SIMULATOR_SEED", default_value_t = 0)]
    seed: u64,

    /// Requests that the log keeps; 0 switches it off, the counters go on.
    #[arg(long, env = "TASKWATCH_SIMULATOR_LOG_CAPACITY", value_name = "N", default_value_t = 100_000)]
    log_capacity: usize,

    /// End when standard input is closed, that is, with the program that started this one.
    #[arg(long, env = "TASKWATCH_SIMULATOR_EXIT_WITH_STDIN")]
    exit_with_stdin: bool,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taskwatch-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    // One thread: it stands on the same machine as what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let scenario = match args.scenario.as_deref() {
            None => None,
            Some("demo") => Some(DEMO.to_owned()),
            Some(file) => {
                Some(std::fs::read_to_string(file).map_err(|e| format!("cannot read the scenario {file}: {e}"))?)
            }
        };
        let simulator = Simulator::start(Config {
            listen: args.listen,
            allow_non_loopback: args.allow_non_loopback,
            tls: args.tls,
            tls_listen: args.tls_listen,
            ca_key: args.ca_key,
            tls_names: args.tls_name,
            tls_expired: args.tls_expired,
            scenario,
            seed: args.seed,
            log_capacity: args.log_capacity,
        })
        .await?;
        if let (Some(file), Some(pem)) = (&args.ca_file, simulator.ca_pem()) {
            std::fs::write(file, pem).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stdin = Arc::new(Notify::new());
        if args.exit_with_stdin {
            watch_stdin(Arc::clone(&stdin));
        }
        announce(&simulator, args.ca_file.as_ref())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin.notified() => {}
        }
        simulator.shutdown().await;
        Ok(())
    })
}

/// The one line on standard output.
fn announce(simulator: &Simulator, ca_file: Option<&PathBuf>) -> io::Result<()> {
    let url = simulator.url();
    let mut line = serde_json::json!({"listening": url, "admin": format!("{url}/_admin"), "caFile": ca_file});
    if let Some(url) = simulator.tls_url() {
        line["tlsListening"] = url.into();
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A thread, because a pending read of standard input cannot be given up.
fn watch_stdin(closed: Arc<Notify>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while matches!(io::stdin().read(&mut buffer), Ok(1..)) {}
        closed.notify_one();
    });
}
