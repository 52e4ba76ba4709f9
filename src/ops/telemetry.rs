//! Log lines on standard error.

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, fmt};

use super::args::LogFormat;

/// Sends the log lines that `filter` (syntax of `EnvFilter`, as `info,taskwatch::engine=debug`) lets through to standard error.
///
/// # Errors
/// The filter cannot be read, or the process has a subscriber already.
pub fn init(format: LogFormat, filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("the log level {filter:?} cannot be used"))?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        LogFormat::Text => {
            // Colours only for a terminal, and for none where NO_COLOR asks so.
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            lines.with_ansi(colours).try_init()
        }
    }
    .map_err(|error| anyhow::anyhow!("cannot begin to log: {error}"))
}
