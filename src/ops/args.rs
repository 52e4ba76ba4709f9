//! The command line. Every flag of `run` is also an environment variable.

// The comments are the help text, where backticks would only be in the way.
#![allow(clippy::doc_markdown)]

mod http;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ::http::{HeaderName, HeaderValue, StatusCode};
use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{NonEmptyStringValueParser, PossibleValue, PossibleValuesParser},
};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

pub use self::http::HttpArgs;
use super::{
    allowance::{Allowance, cidr},
    traces::Endpoint,
    upstream_proxy::{Direct, UpstreamProxy},
};

/// The namespace of the Secrets of cluster-scoped connections where neither the flag nor `POD_NAMESPACE` says otherwise.
pub const DEFAULT_NAMESPACE: &str = "taskwatch-system";

const EXIT_CODES: &str = "\
Exit codes:
  0         done; of `run`: ended by SIGTERM or SIGINT, with its work drained
  1         failed: the reason is the last line on standard error
  2         the command line, or a TASKWATCH_… variable, cannot be used
  130, 143  a second SIGINT, SIGTERM came while the work was being drained";

/// Mirrors long-running tasks of other systems into the status of Kubernetes objects.
///
/// It watches TaskWatch objects, asks the task APIs that their connections name, and writes what it sees into their status.
/// It observes; it never starts, cancels or repeats a task.
#[derive(Debug, Parser)]
#[command(name = "taskwatch", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line, on which these providers can be named; each comes with what it is. Ends the process where it cannot be
    /// read, with exit code 2.
    #[must_use]
    pub fn parse_naming(providers: &[(&'static str, &'static str)]) -> Self {
        let mut command = Self::command_naming(providers);
        let mut matches = command.get_matches_mut();
        Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }

    /// The definition of the command line, on which these providers can be named.
    #[must_use]
    pub fn command_naming(providers: &[(&'static str, &'static str)]) -> clap::Command {
        let values = providers.iter().map(|(name, about)| PossibleValue::new(*name).help(*about));
        let parser = PossibleValuesParser::new(values);
        let also = parser.clone();
        Self::command()
            .mut_subcommand("run", |run| run.mut_arg("deny_provider", |arg| arg.value_parser(parser)))
            .mut_subcommand("decode", |decode| decode.mut_arg("provider", |arg| arg.value_parser(also)))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until SIGTERM or SIGINT
    Run(Box<RunArgs>),
    /// Print the custom resource definitions as YAML
    Crds(CrdsArgs),
    /// Show what the operator makes of an upstream's answer
    ///
    /// Reads the body from FILE or standard input and prints one JSON object: {"kind":"task",…}, {"kind":"list",…} or
    /// {"kind":"error",…}. Nothing is contacted.
    Decode(DecodeArgs),
    /// Print the version
    Version,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Watch this namespace only; repeat it, or separate several by commas [default: all namespaces]
    #[arg(long = "namespace", env = "TASKWATCH_NAMESPACE", value_name = "NAME", value_delimiter = ',',
          value_parser = NonEmptyStringValueParser::new())]
    pub namespaces: Vec<String>,

    /// Where the Secrets of ClusterTaskConnections live [default: $POD_NAMESPACE, else taskwatch-system]
    #[arg(long, env = "TASKWATCH_CLUSTER_RESOURCE_NAMESPACE", value_name = "NAME")]
    pub cluster_resource_namespace: Option<String>,

    /// Let connections reach this address range, as 10.1.0.0/16, 10.1.2.3 or 10.1.0.0/16:443@team-a; repeat it, or separate several
    /// by commas [default: public addresses only]
    ///
    /// Without it, connections reach neither private, loopback, link-local nor reserved addresses.
    /// PORTS are numbers and ranges joined by +, as 10.1.0.0/16:443+8000-8443, or [fd00::/8]:443 for IPv6. Without them, all ports are
    /// open but those of kubelet and etcd (2379, 2380, 10250, 10255), which have to be named.
    /// NAMESPACES are names and patterns joined by +, as 10.1.0.0/16@team-a+infra-*; a ClusterTaskConnection is named as
    /// clustertaskconnection/NAME. Without them, it is for all.
    /// The addresses of the Kubernetes API server stay out of reach whatever is named, and so do the metadata services of clouds
    /// unless one is named exactly (169.254.169.254/32).
    #[arg(long, env = "TASKWATCH_ALLOW_EGRESS", value_name = "CIDR[:PORTS][@NAMESPACES]", value_delimiter = ',')]
    pub allow_egress: Vec<Allowance>,

    /// Never let a connection reach this address range, public or not, whatever --allow-egress says; repeat it, or separate several
    /// by commas
    ///
    /// For nodes, pods and API servers with public addresses.
    #[arg(long, env = "TASKWATCH_DENY_EGRESS", value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub deny_egress: Vec<IpNet>,

    /// Let connections to public addresses use http://, which shows their credentials to everybody on the way
    ///
    /// Private addresses that --allow-egress names can be reached by http:// without it.
    #[arg(long, env = "TASKWATCH_ALLOW_HTTP")]
    pub allow_http: bool,

    /// Reach upstreams through this HTTP proxy, http://[USER:PASSWORD@]HOST[:PORT] [default: directly]
    ///
    /// https:// endpoints are reached by CONNECT, http:// ones by forwarded requests. The proxy resolves their names, so the egress
    /// policy judges literal addresses only, and rules out the cluster's own names. HTTPS_PROXY and the like are for the Kubernetes
    /// API server alone.
    #[arg(long, env = "TASKWATCH_UPSTREAM_PROXY", value_name = "URL", hide_env_values = true)]
    pub upstream_proxy: Option<UpstreamProxy>,

    /// Reach these upstreams without the proxy, as .example.com, example.com, 10.0.0.0/8 or HOST:PORT, by the rules of NO_PROXY;
    /// repeat it, or separate several by commas
    #[arg(long, env = "TASKWATCH_UPSTREAM_NO_PROXY", value_name = "HOST", value_delimiter = ',')]
    pub upstream_no_proxy: Vec<Direct>,

    /// Serve no ClusterTaskConnections: each namespace then uses connections and Secrets of its own only
    #[arg(long, env = "TASKWATCH_NO_CLUSTER_CONNECTIONS")]
    pub no_cluster_connections: bool,

    /// Serve TaskWatchSets, which find tasks and create TaskWatches for them; with false, none is served, and the rights of the role
    /// taskwatch-sets are not needed
    #[arg(long, env = "TASKWATCH_DISCOVERY", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub discovery: bool,

    /// Let no connection use this kind of credential; repeat it, or separate several by commas
    #[arg(long, env = "TASKWATCH_DENY_AUTH", value_name = "KIND", value_delimiter = ',', value_enum)]
    pub deny_auth: Vec<AuthName>,

    /// Let no connection use this provider; repeat it, or separate several by commas
    #[arg(long, env = "TASKWATCH_DENY_PROVIDER", value_name = "PROVIDER", value_delimiter = ',')]
    pub deny_provider: Vec<String>,

    /// How metrics are served.
    #[command(flatten)]
    pub http: HttpArgs,

    /// Where /healthz and /readyz are served, for the kubelet alone; port 0 takes a free one and logs it
    #[arg(long, env = "TASKWATCH_PROBE_ADDRESS", value_name = "ADDRESS", default_value = "[::]:8081")]
    pub probe_address: SocketAddr,

    /// How log lines on standard error look
    #[arg(long, env = "TASKWATCH_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as info,taskwatch::engine=debug
    #[arg(long, env = "TASKWATCH_LOG_LEVEL", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub log_level: String,

    /// Send traces of polls to the OpenTelemetry collector at this base URL, as http://HOST:4318: by OTLP over HTTP, in JSON
    /// [default: no traces]
    ///
    /// A trace has what each step took: request, decode, decide, write. What finds no room in a queue is dropped, and counted.
    #[arg(long, env = "TASKWATCH_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Endpoint>,

    /// Write progress alone at most this often, in seconds, 0 to 3600
    #[arg(long, env = "TASKWATCH_PROGRESS_MIN_SECONDS", value_name = "SECONDS", default_value = "30",
          value_parser = seconds::<0, 3600>)]
    pub progress_min_seconds: Duration,

    /// Write progress alone only when it has moved by this many percentage points, 1 to 100
    #[arg(long, env = "TASKWATCH_PROGRESS_MIN_POINTS", value_name = "POINTS", default_value_t = 5,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub progress_min_points: u8,

    /// Read the Secrets in use again this often, in seconds, 1 to 3600
    #[arg(long, env = "TASKWATCH_SECRET_REFRESH_SECONDS", value_name = "SECONDS", default_value = "30",
          value_parser = seconds::<1, 3600>)]
    pub secret_refresh_seconds: Duration,

    /// Send at most this many requests per second to upstreams over all connections, 1 to 100000, or 0 for no limit
    #[arg(long, env = "TASKWATCH_MAX_REQUESTS_PER_SECOND", value_name = "COUNT", default_value = "500",
          value_parser = rate)]
    pub max_requests_per_second: f64,

    /// Send at most this many of them for the connections of one namespace, or for one ClusterTaskConnection, 1 to 100000, or 0
    /// for no limit
    #[arg(long, env = "TASKWATCH_MAX_REQUESTS_PER_SECOND_PER_NAMESPACE", value_name = "COUNT", default_value = "250",
          value_parser = rate)]
    pub max_requests_per_second_per_namespace: f64,

    /// How many statuses are written at a time, 1 to 256
    #[arg(long, env = "TASKWATCH_WORKERS", value_name = "COUNT", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,

    /// Send at most this many status updates, events and deletions a second to the Kubernetes API server, 0 for no limit
    ///
    /// Where that does not suffice, each namespace gets the same share: who writes little is not held up by who writes much.
    #[arg(long, env = "TASKWATCH_API_WRITES_PER_SECOND", value_name = "COUNT", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub api_writes_per_second: u32,

    /// Create at most this many TaskWatches a second for TaskWatchSets, over all namespaces, 1 to 100000, or 0 for no limit
    ///
    /// They count towards --api-writes-per-second, too.
    #[arg(long, env = "TASKWATCH_CHILD_CREATES_PER_SECOND", value_name = "COUNT", default_value = "50",
          value_parser = rate)]
    pub child_creates_per_second: f64,

    /// Serve at most this many TaskWatches of each namespace, 0 for no limit [default: by the memory limit]
    ///
    /// The oldest ones are served; the others say so in their status until enough of the older ones are deleted. The default is
    /// one for each 10 KiB of the memory limit.
    #[arg(long, env = "TASKWATCH_MAX_WATCHES_PER_NAMESPACE", value_name = "COUNT")]
    pub max_watches_per_namespace: Option<usize>,

    /// Serve at most this many TaskConnections of each namespace, and as many TaskWatchSets; 0 for no limit
    ///
    /// The oldest ones are served; the others say so in their status until enough of the older ones are deleted.
    #[arg(long, env = "TASKWATCH_MAX_CONNECTIONS_PER_NAMESPACE", value_name = "COUNT", default_value_t = 500)]
    pub max_connections_per_namespace: usize,

    /// Worker threads of the asynchronous runtime, 1 to 64
    #[arg(long, env = "TASKWATCH_THREADS", value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// How long work under way may take to end after SIGTERM, in seconds, 0 to 300; keep it under the pod's
    /// terminationGracePeriodSeconds
    #[arg(long, env = "TASKWATCH_DRAIN_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "8",
          value_parser = seconds::<0, 300>)]
    pub drain_timeout_seconds: Duration,

    /// Divide the connections among replicas by so many Leases, 1 to 64: with 1 one replica does everything and others stand by, with
    /// more each has its share; 0 for a single replica without a Lease [default: 1 in a pod, else 0]
    ///
    /// All replicas must be given the same number. Where it is changed, the new ones wait until the old ones are gone.
    #[arg(long, env = "TASKWATCH_LEASE_BUCKETS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub lease_buckets: Option<u16>,

    /// What the Leases are called, and where they are: NAME in the namespace of the pod, or NAMESPACE/NAME
    ///
    /// Two installations in one namespace need different names.
    #[arg(long, env = "TASKWATCH_LEASE", value_name = "[NAMESPACE/]NAME", default_value = "taskwatch", value_parser = lease)]
    pub lease: LeaseName,

    /// How long a Lease lasts that is not renewed, in seconds, 5 to 300: another replica takes over after that
    ///
    /// It is renewed three times as often. A replica that cannot renew it stops polling and writing after two thirds of it.
    #[arg(long, env = "TASKWATCH_LEASE_DURATION_SECONDS", value_name = "SECONDS", default_value = "15",
          value_parser = seconds::<5, 300>)]
    pub lease_duration_seconds: Duration,

    /// Kubeconfig file to use [default: $KUBECONFIG or ~/.kube/config where there is one, else the pod's service account]
    #[arg(long, env = "TASKWATCH_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use [default: its current one]
    #[arg(long, env = "TASKWATCH_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
}

/// Where Leases are, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// None for that of the pod.
    pub namespace: Option<String>,
    /// What their names begin with.
    pub name: String,
}

impl RunArgs {
    /// How many Leases the connections are divided by; 0 for none.
    #[must_use]
    pub fn lease_buckets(&self) -> u16 {
        self.lease_buckets.unwrap_or_else(|| u16::from(pod_namespace().is_some()))
    }

    /// The namespace of the Leases: that of the flag, else `POD_NAMESPACE`, else [`DEFAULT_NAMESPACE`].
    #[must_use]
    pub fn lease_namespace(&self) -> String {
        self.lease.namespace.clone().or_else(pod_namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }

    /// The namespace of the Secrets of cluster-scoped connections: the flag, else `POD_NAMESPACE`, else [`DEFAULT_NAMESPACE`].
    #[must_use]
    pub fn cluster_resource_namespace(&self) -> String {
        self.cluster_resource_namespace_or(pod_namespace())
    }

    fn cluster_resource_namespace_or(&self, pod_namespace: Option<String>) -> String {
        [self.cluster_resource_namespace.clone(), pod_namespace]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }
}

/// The namespace of the pod that this runs in; none where it is none.
fn pod_namespace() -> Option<String> {
    std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty())
}

/// Flags of `crds`.
#[derive(Clone, Debug, Args)]
pub struct CrdsArgs {
    /// Write one file for each definition into this directory [default: all on standard output]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `decode`.
#[derive(Clone, Debug, Args)]
pub struct DecodeArgs {
    /// Whose answer it is
    #[arg(long)]
    pub provider: String,

    /// The HTTP status of the answer, 100 to 599
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = http_status)]
    pub http_status: StatusCode,

    /// A header field of the answer, as 'Retry-After: 30'; repeat it for more
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,

    /// The body of the answer [default, and for -: standard input]
    pub file: Option<PathBuf>,
}

/// The kinds of credentials, by the names of the API's union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthName {
    /// A static token.
    #[value(name = "token")]
    Token,
    /// Identity API v3, with a password.
    #[value(name = "keystone")]
    Keystone,
    /// Requests signed with an access key of Huawei Cloud.
    #[value(name = "accessKey")]
    AccessKey,
    /// A key of Cloud.ru.
    #[value(name = "cloudRuKey")]
    CloudRuKey,
    /// OAuth2 client credentials.
    #[value(name = "oauth2")]
    OAuth2,
}

impl AuthName {
    /// The name of the API's union.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Keystone => "keystone",
            Self::AccessKey => "accessKey",
            Self::CloudRuKey => "cloudRuKey",
            Self::OAuth2 => "oauth2",
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

fn seconds<const MIN: u64, const MAX: u64>(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (MIN..=MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("give whole seconds from {MIN} to {MAX}")),
    }
}

/// Whole requests a second; infinite for none.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<u32>() {
        Ok(0) => Ok(f64::INFINITY),
        Ok(count @ 1..=100_000) => Ok(f64::from(count)),
        _ => Err("give a whole number from 1 to 100000, or 0 for no limit".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn lease(text: &str) -> Result<LeaseName, String> {
    let (namespace, name) = text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name));
    let is_label = |text: &str| {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=40).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('-') && !text.ends_with('-')
    };
    if namespace.is_none_or(is_label) && is_label(name) {
        return Ok(LeaseName { namespace: namespace.map(str::to_owned), name: name.to_owned() });
    }
    Err("give a name of at most 40 lowercase letters, digits and '-', as taskwatch or taskwatch-system/taskwatch"
        .to_owned())
}

fn http_status(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|status| (100..=599).contains(status));
    status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| "give a number from 100 to 599".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("give it as 'Name: value'")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} cannot be the name of a header field"))?;
    let value =
        value.trim().parse().map_err(|_| "the value has characters that a header field cannot have".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests;
