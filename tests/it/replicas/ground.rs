//! Where replicas play: a namespace of a control plane whose audit log has what each of them writes, and an upstream whose log has what each
//! of them asks. To the API server each is a user of its own; to the upstream each has an address of its own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Mutex, atomic::AtomicU32},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use taskwatch::{api::TaskWatch, ownership::Buckets};
use taskwatch_harness::{ControlPlane, Identity, Operator, OperatorOptions, Workdir, eventually};
use tokio::{
    io::copy_bidirectional,
    net::TcpSocket,
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

use super::{
    LEASE,
    ledger::{Act, LeaseWrite, Ledger, forged},
};
use crate::{
    rights::Audit,
    stage::{HUAWEI, SECRET, SOON, Stage, install, lay_over},
};

/// So many replicas may play in a namespace.
const MOST: usize = 100;
/// What is known of the upstream is a name, so that it is asked through a proxy: what is on this machine is not.
const UPSTREAM: &str = "http://api.example.com";
/// An object that is written so that the log has it: what was written before is in there then.
const MARK: &str = "configmaps";

/// A namespace, and its replicas.
pub struct Ground {
    pub stage: Stage,
    audit: &'static Audit,
    buckets: u16,
    /// From where each replica asks.
    addresses: Mutex<BTreeMap<String, Ipv4Addr>>,
    /// On a thread of its own: what the test does must not delay what the upstream's log has.
    relays: Option<Runtime>,
    workdir: Workdir,
}

/// What the logs have of a namespace.
pub struct Record {
    pub leases: Vec<LeaseWrite>,
    pub acts: Vec<Act>,
    pub ledger: Ledger,
}

/// The names of all replicas, which are users, too.
fn names() -> impl Iterator<Item = String> {
    (0..MOST).map(|number| format!("r{number}"))
}

/// The control plane that all of these tests share, and its log.
async fn plane() -> (&'static ControlPlane, &'static Audit) {
    static PLANE: OnceCell<(ControlPlane, Audit)> = OnceCell::const_new();
    let (plane, audit) = PLANE
        .get_or_init(|| async {
            let users: Vec<_> = names().collect();
            let audit = Audit::by(&json!([
                {"level": "Request", "users": users, "verbs": ["create", "update", "patch", "delete"]},
                {"level": "Metadata", "resources": [{"group": "", "resources": [MARK]}], "verbs": ["patch"]},
                {"level": "None"},
            ]));
            let identities = names().map(|name| Identity::new(&name, &["system:masters"])).collect();
            let options = taskwatch_harness::ControlPlaneOptions { identities, ..audit.options() };
            let plane = ControlPlane::start_with(options).await.unwrap();
            install(&plane).await.unwrap();
            (plane, audit)
        })
        .await;
    (plane, audit)
}

impl Ground {
    /// A namespace whose replicas divide its connections into so many buckets.
    pub async fn new(namespace: &str, buckets: u16) -> Self {
        let (plane, audit) = plane().await;
        let stage = Stage::on(plane, namespace).await;
        let relays = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let workdir = Workdir::new("replicas").unwrap();
        Self { stage, audit, buckets, addresses: Mutex::default(), relays: Some(relays), workdir }
    }

    /// A connection, and all that it takes: as [`Stage::upstream`], but that its requests can be told apart by who sends them.
    pub async fn upstream(&self, name: &str, more: Value) {
        let mut spec = json!({"provider": {HUAWEI: {"endpoint": UPSTREAM}}});
        lay_over(&mut spec, more);
        self.stage.scope(HUAWEI, name, json!([{"kind": "token", "token": SECRET}])).await;
        self.stage.secret(name, json!({"token": SECRET})).await;
        let token = json!({"token": {"secretRef": {"name": name}}});
        self.stage.connection(name, HUAWEI, name, token, spec).await;
    }

    /// Starts a replica, `r0` to `r99`, which lives in the namespace.
    pub async fn replica(&self, name: &str) -> Operator {
        let kubeconfig = self.stage.plane.kubeconfig(name).unwrap();
        Operator::start(self.options(name, kubeconfig)).await.unwrap()
    }

    /// The same, and it reaches the API server by way of `address`.
    pub async fn replica_through(&self, name: &str, address: &str) -> Operator {
        let kubeconfig = std::fs::read_to_string(self.stage.plane.kubeconfig(name).unwrap()).unwrap();
        let kubeconfig = kubeconfig.replace(&self.stage.plane.url(), &format!("https://{address}"));
        let kubeconfig = self.workdir.write("kubeconfig", &kubeconfig).unwrap();
        Operator::start(self.options(name, kubeconfig)).await.unwrap()
    }

    fn options(&self, name: &str, kubeconfig: PathBuf) -> OperatorOptions {
        let proxy = format!("http://{}", self.relay(name));
        let (buckets, duration) = (self.buckets.to_string(), LEASE.as_secs().to_string());
        OperatorOptions { kubeconfig, ..self.stage.operator_options() }
            .args(&["--upstream-proxy", &proxy, "--allow-http"])
            .args(&["--lease-buckets", &buckets, "--lease-duration-seconds", &duration])
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", &self.stage.namespace)
    }

    /// A proxy to which every host is the upstream, and which asks that from the replica's address. Returns where it listens.
    fn relay(&self, name: &str) -> SocketAddr {
        let from = {
            let mut addresses = self.addresses.lock().unwrap();
            let next = Ipv4Addr::new(127, 0, 1, u8::try_from(addresses.len() + 1).unwrap());
            *addresses.entry(name.to_owned()).or_insert(next)
        };
        let to: SocketAddr = self.stage.simulator.url().strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        self.relays.as_ref().unwrap().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind((from, 0).into())?;
                    let mut far = socket.connect(to).await?;
                    near.set_nodelay(true)?;
                    far.set_nodelay(true)?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        address
    }

    /// Who holds each bucket, in their order; none where it is free.
    pub async fn holders(&self) -> Result<Vec<Option<String>>> {
        let api: Api<Lease> = Api::namespaced(self.stage.client.clone(), &self.stage.namespace);
        let mut leases = api.list(&ListParams::default().labels("taskwatch.dev/leases=taskwatch")).await?.items;
        leases.retain(|lease| bucket(&lease.name_any()).is_some());
        leases.sort_by_key(|lease| bucket(&lease.name_any()));
        Ok(leases.into_iter().map(|lease| lease.spec.and_then(|spec| spec.holder_identity)).collect())
    }

    pub async fn until_held(&self, limit: Duration, wanted: &[&str]) {
        eventually(limit, &format!("the leases are held by {wanted:?}"), || async {
            let held = self.holders().await?;
            ensure!(held.iter().map(Option::as_deref).eq(wanted.iter().map(|name| Some(*name))), "{held:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// What the upstream has been asked, and by whom, oldest first: microseconds, the replica, and the connection.
    pub async fn requests(&self) -> Vec<(i64, String, String)> {
        let addresses = self.addresses.lock().unwrap().clone();
        let (entries, _) = self.stage.requests(0).await;
        let request = |entry: &Value| {
            let peer = entry["peer"].as_str().unwrap();
            let name = addresses.iter().find(|(_, address)| address.to_string() == peer).expect(peer).0;
            (entry["timeMs"].as_i64().unwrap() * 1000, name.clone(), entry["scope"].as_str().unwrap().to_owned())
        };
        entries.iter().map(request).collect()
    }

    /// No two of them wrote, and no two of them asked, at a time: each write, and each request, falls into the time in which its sender
    /// held the Lease of it. These have done both. Whoever is still at work goes on meanwhile.
    pub async fn is_proven(&self, at_work: &[&str]) -> Record {
        let record = self.record().await;
        let faults = [forged(&record.leases), record.ledger.faults(&record.acts)].concat();
        assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), record.acts.len(), faults.join("\n"));
        for name in at_work {
            let did = |what| record.acts.iter().any(|act| act.by == *name && act.what.starts_with(what));
            assert!(did("asks") && did("patch taskwatches/status"), "{name} has done nothing");
        }
        record
    }

    async fn record(&self) -> Record {
        let requests = self.requests().await;
        let mut entries = self.audited().await;
        entries.retain(|entry| entry["objectRef"]["namespace"] == *self.stage.namespace);
        entries.retain(|entry| entry["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300));
        // As they arrived: a Lease can only be written by who has read what the write before has made of it.
        entries.sort_by_key(received);
        let watches: Api<TaskWatch> = Api::namespaced(self.stage.client.clone(), &self.stage.namespace);
        let watches = watches.list(&ListParams::default()).await.unwrap().items;
        let of_watch: BTreeMap<_, _> =
            watches.into_iter().map(|watch| (watch.name_any(), watch.spec.connection_ref.name)).collect();
        let buckets = Buckets::new(self.buckets);
        let bucket_of = |name: &str| buckets.of(&format!("{}/{name}", self.stage.namespace)).number();
        let (mut leases, mut acts) = (Vec::new(), Vec::new());
        for entry in &entries {
            let (at, by) = (received(entry), text(&entry["user"]["username"]));
            let (object, body) = (&entry["objectRef"], &entry["requestObject"]);
            let (resource, name) = (text(&object["resource"]), text(&object["name"]));
            let connection = match resource.as_str() {
                MARK => continue,
                "leases" => {
                    let holder = body["spec"]["holderIdentity"].as_str().map(str::to_owned);
                    leases.extend(bucket(&name).map(|bucket| LeaseWrite { at, by, bucket, holder }));
                    continue;
                }
                "taskconnections" => &name,
                "taskwatches" => &of_watch[&name],
                "events" => &of_watch[&text(&body["regarding"]["name"])],
                other => panic!("what is that? {other}: {entry}"),
            };
            let resource =
                object["subresource"].as_str().map_or_else(|| resource.clone(), |s| format!("{resource}/{s}"));
            let what = format!("{} {resource} {name}", text(&entry["verb"]));
            acts.push(Act { at, by, bucket: bucket_of(connection), what });
        }
        for (at, by, connection) in requests {
            acts.push(Act { at, by, bucket: bucket_of(&connection), what: format!("asks {connection}") });
        }
        let ledger = Ledger::new(&leases, LEASE);
        Record { leases, acts, ledger }
    }

    /// The audit log, with all that was written until now.
    async fn audited(&self) -> Vec<Value> {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark-{}", MARKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.stage.put(json!({"kind": "ConfigMap", "metadata": {"name": mark}})).await;
        eventually(SOON, "the log has the mark", || async {
            let entries = self.audit.entries();
            let is_there = entries.iter().any(|entry| entry["objectRef"]["name"] == *mark);
            is_there.then_some(entries).context("not yet")
        })
        .await
        .unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(relays) = self.relays.take() {
            relays.shutdown_background();
        }
    }
}

/// The bucket of a Lease, by its name; none where it is that of a replica.
fn bucket(lease: &str) -> Option<u16> {
    lease.strip_prefix("taskwatch-")?.parse().ok()
}

/// When a request arrived, in microseconds.
fn received(entry: &Value) -> i64 {
    text(&entry["requestReceivedTimestamp"]).parse::<Timestamp>().unwrap().as_microsecond()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
