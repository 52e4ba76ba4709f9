//! From a host's name to its addresses, without a thread: a stub resolver that goes by the pod's `resolv.conf` and `hosts`, bounded in
//! how much is asked at a time, over all and for each tenant.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    system_conf::parse_resolv_conf,
};
use tokio::time::{Instant, timeout_at};

use crate::sync::lock;
use crate::tenancy::{Tenant, pool::Pool};

/// How long a name may take in all, the wait for its turn included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one server may take for one try, whatever `resolv.conf` says, so that there is time for another.
const TRY: Duration = Duration::from_secs(2);
/// Names that are asked for at a time; a single tenant may have half of them.
const LOOKUPS: usize = 64;
/// Names that a tenant may ask for at a time, whatever the others do.
const LOOKUPS_EACH: usize = 4;
/// How long an answer is kept: its time to live within these.
const KEPT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long a failure is kept.
const KEPT_FAILURE: Duration = Duration::from_secs(5);
/// Names whose answers are kept.
const KEPT_NAMES: usize = 4_096;
/// Addresses of a name that are looked at.
const ADDRESSES: usize = 16;
/// How often the files are looked at for changes.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// The files are read up to this size, in bytes.
const FILE_SIZE: usize = 1 << 20;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("there is no such name in DNS")]
    NoSuchName,
    #[error("the name has no addresses")]
    NoAddresses,
    #[error("the DNS servers do not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("too many names are being resolved for this namespace at a time; retrying later")]
    Busy,
    #[error("the DNS servers answer with an error: {0}")]
    Server(String),
    #[error("the operator's resolv.conf cannot be used: {0}")]
    Config(String),
}

type Answer = Result<Arc<[IpAddr]>, NameError>;
type Lookup = Shared<BoxFuture<'static, Answer>>;

/// The resolver. Clones are the same one.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    files: Files,
    turns: Pool,
    state: Mutex<State>,
}

/// Where it is said how names are resolved.
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Of the DNS servers; another than 53 is for tests.
    port: u16,
}

#[derive(Default)]
struct State {
    tables: Option<(Stamp, Arc<Tables>)>,
    looked: Option<Instant>,
    kept: HashMap<String, (Instant, Answer)>,
    under_way: HashMap<String, WeakShared<BoxFuture<'static, Answer>>>,
}

/// When the files were last changed, and how large they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Names {
    /// One that goes by the files of the system.
    pub(super) fn of_system() -> Self {
        Self::new(Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 })
    }

    fn new(files: Files) -> Self {
        Self(Arc::new(Inner { files, turns: Pool::new(LOOKUPS, LOOKUPS_EACH), state: Mutex::default() }))
    }

    /// The addresses of `name`, at least one.
    pub(super) async fn resolve(&self, name: &str, tenant: &Tenant) -> Answer {
        if let Some(kept) = self.kept(name) {
            return kept;
        }
        let deadline = Instant::now() + TIMEOUT;
        // Each waits on its own account, also for what another has asked already: nobody waits for another tenant's turn.
        let mut turn = self.0.turns.lease(tenant);
        timeout_at(deadline, turn.grow(1)).await.map_err(|_| NameError::Busy)?;
        // Given at the very end by one that has given up: it would be of no use.
        if Instant::now() >= deadline {
            return Err(NameError::Busy);
        }
        if let Some(kept) = self.kept(name) {
            return kept;
        }
        let lookup = self.lookup(name);
        timeout_at(deadline, lookup).await.unwrap_or(Err(NameError::Timeout))
    }

    fn kept(&self, name: &str) -> Option<Answer> {
        let state = self.lock();
        let (until, answer) = state.kept.get(name)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    /// The lookup of this name that is under way, else a new one.
    fn lookup(&self, name: &str) -> Lookup {
        let mut state = self.lock();
        if let Some(lookup) = state.under_way.get(name).and_then(WeakShared::upgrade) {
            return lookup;
        }
        let tables = self.tables(&mut state);
        let (this, asked) = (self.clone(), name.to_owned());
        let lookup = async move {
            let found = match tables {
                Ok(tables) => tables.resolve(&asked).await,
                Err(error) => Err(error),
            };
            this.keep(asked, found)
        };
        let lookup = lookup.boxed().shared();
        state.under_way.retain(|_, lookup| lookup.upgrade().is_some());
        if let Some(weak) = lookup.downgrade() {
            state.under_way.insert(name.to_owned(), weak);
        }
        lookup
    }

    fn keep(&self, name: String, found: Result<Found, NameError>) -> Answer {
        let (life, answer) = match found {
            Ok(found) => (found.life.clamp(KEPT.0, KEPT.1), Ok(found.addresses)),
            Err(error) => (KEPT_FAILURE, Err(error)),
        };
        let now = Instant::now();
        let mut state = self.lock();
        state.under_way.remove(&name);
        if state.kept.len() >= KEPT_NAMES {
            state.kept.retain(|_, (until, _)| now < *until);
        }
        if state.kept.len() < KEPT_NAMES || state.kept.contains_key(&name) {
            state.kept.insert(name, (now + life, answer.clone()));
        }
        answer
    }

    /// What the files say, read again when they have changed.
    fn tables(&self, state: &mut State) -> Result<Arc<Tables>, NameError> {
        let now = Instant::now();
        let looked = state.looked.is_some_and(|last| now.saturating_duration_since(last) < FILES_EVERY);
        if let (true, Some((_, tables))) = (looked, &state.tables) {
            return Ok(Arc::clone(tables));
        }
        let files = &self.0.files;
        let stamp = [&files.resolv_conf, &files.hosts].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        state.looked = Some(now);
        if let Some((known, tables)) = &state.tables
            && *known == stamp
        {
            return Ok(Arc::clone(tables));
        }
        // Small local files: read at once, since the blocking threads may be taken.
        let read = |path| fs::read(path).map(|text| text.into_iter().take(FILE_SIZE).collect::<Vec<_>>());
        let resolv_conf = read(&files.resolv_conf).map_err(|error| NameError::Config(error.to_string()))?;
        let hosts = read(&files.hosts).unwrap_or_default();
        let tables = Arc::new(Tables::new(&resolv_conf, &hosts, files.port)?);
        state.tables = Some((stamp, Arc::clone(&tables)));
        state.kept.clear();
        Ok(tables)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

/// Addresses, and how long they hold.
struct Found {
    addresses: Arc<[IpAddr]>,
    life: Duration,
}

/// What the files say.
struct Tables {
    hosts: HashMap<String, Vec<IpAddr>>,
    resolver: TokioResolver,
}

impl Tables {
    fn new(resolv_conf: &[u8], hosts: &[u8], port: u16) -> Result<Self, NameError> {
        let unusable = |error: NetError| NameError::Config(error.to_string());
        let (mut config, mut options) = parse_resolv_conf(resolv_conf).map_err(unusable)?;
        for connection in config.name_servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = port;
        }
        options.timeout = options.timeout.min(TRY);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Both are kept here.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        Ok(Self { hosts: parse_hosts(hosts), resolver: builder.build().map_err(unusable)? })
    }

    async fn resolve(&self, name: &str) -> Result<Found, NameError> {
        let in_hosts = self.hosts.get(&name.trim_end_matches('.').to_ascii_lowercase());
        if let Some(addresses) = in_hosts {
            return Ok(Found { addresses: addresses.iter().copied().take(ADDRESSES).collect(), life: KEPT.0 });
        }
        let found = self.resolver.lookup_ip(name).await.map_err(|error| explain(&error))?;
        let addresses: Arc<[IpAddr]> = found.iter().take(ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(NameError::NoAddresses);
        }
        let life = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok(Found { addresses, life })
    }
}

/// `hosts(5)`: an address, then its names; `#` begins a comment.
fn parse_hosts(text: &[u8]) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words {
            hosts.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default().push(address);
        }
    }
    hosts
}

fn explain(error: &NetError) -> NameError {
    match error {
        error if error.is_nx_domain() => NameError::NoSuchName,
        error if error.is_no_records_found() => NameError::NoAddresses,
        NetError::Timeout => NameError::Timeout,
        NetError::Busy => NameError::Busy,
        NetError::Dns(DnsError::ResponseCode(code)) => NameError::Server(code.to_string()),
        NetError::NoConnections => NameError::Server("none of them can be reached".to_owned()),
        NetError::Io(error) => NameError::Server(format!("none of them can be reached: {error}")),
        other => NameError::Server(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
