//! What the subcommands do.

use std::io::Read;

use crate::{
    api, controller,
    ops::{
        admin::Admin,
        args::{Cli, Command, CrdsArgs, DecodeArgs, RunArgs},
        authorization::Authorizer,
        client,
        debug::Respondent,
        guard,
        health::Health,
        limits,
        metrics::Metrics,
        pages::Pages,
        shutdown, telemetry,
    },
    providers::{Answer, decode, registry},
};
use anyhow::{Context, Result};
use jiff::Timestamp;

/// Reads the command line, and does what it says. A usage error ends the process, with exit code 2.
///
/// # Errors
/// What went wrong, for people.
pub fn execute() -> Result<()> {
    match Cli::parse_naming(&registry::names()).command {
        Command::Run(args) => {
            // An error means that there is one already, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
            telemetry::init(args.log_format, &args.log_level)?;
            guard::install();
            // The work is waiting: a second thread costs more in waking each other than it gives.
            let mut runtime = match args.threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            if args.threads > 1 {
                runtime.worker_threads(usize::from(args.threads));
            }
            let runtime = runtime.enable_all().build().context("cannot start the asynchronous runtime")?;
            runtime.block_on(run(*args))
        }
        Command::Crds(args) => crds(&args),
        Command::Decode(args) => decode(&args),
        Command::Version => {
            println!("taskwatch {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// Runs the operator until it is told to stop.
async fn run(args: RunArgs) -> Result<()> {
    let stop = shutdown::on_signals().context("cannot listen for signals")?;
    let (metrics, health) = (Metrics::new(), Health::default());
    limits::keep_memory_private();
    limits::raise_open_files();
    let (client, api_server) = client::connect(&args, &metrics).await?;
    let authorizer = args.http.authorization.then(|| Authorizer::new(client.clone()));
    let respondent = Respondent::default();
    let pages = Pages::new(metrics.clone(), respondent.clone(), authorizer);
    let admin = Admin::serve(args.http.address, args.probe_address, health.clone(), pages, args.http.certificate())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespaces = ?args.namespaces, "taskwatch starts");
    controller::run(&args, client, api_server, metrics, health, &respondent, stop).await?;
    admin.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Prints the custom resource definitions, or writes them into a directory.
fn crds(args: &CrdsArgs) -> Result<()> {
    let files = api::crd_yaml()?;
    match &args.dir {
        None => print!("{}", files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("---\n")),
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
            for (name, text) in files {
                let path = dir.join(name);
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Shows what the operator makes of an upstream's answer.
fn decode(args: &DecodeArgs) -> Result<()> {
    let mut body = Vec::new();
    match args.file.as_ref().filter(|path| path.as_os_str() != "-") {
        Some(path) => body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => drop(std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?),
    }
    let headers = args.headers.iter().cloned().collect();
    let answer = Answer { status: args.http_status, headers, body: body.into(), fault: None };
    let provider = registry::find(&args.provider).context("no such provider")?.plain();
    let explained = decode::explain(provider.as_ref(), &answer, Timestamp::now());
    println!("{}", serde_json::to_string_pretty(&explained)?);
    Ok(())
}
