//! A real control plane: etcd and kube-apiserver, and on demand the controller manager.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{Kubectl, Output, Process, Workdir, binary::build, eventually, kubectl, ports::free_port};

/// The user of `system:masters`, who may do everything.
pub const ADMIN: &str = "admin";
/// The operator's service account, as `deploy/` names it: it may do what RBAC grants it.
pub const OPERATOR: &str = "system:serviceaccount:taskwatch-system:taskwatch";
/// An ordinary user without any grant.
pub const TENANT: &str = "tenant";

const ATTEMPTS: usize = 5;
const READY_LIMIT: Duration = Duration::from_mins(2);
const ETCD_LIMIT: Duration = Duration::from_secs(30);
// Compiling Kubernetes the first time, on a slow and busy machine.
const BUILD_LIMIT: Duration = Duration::from_hours(2);

/// A user whom the API server knows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name, also that for [`ControlPlane::kubeconfig`].
    pub name: String,
    /// The groups, beside `system:authenticated`.
    pub groups: Vec<String>,
}

impl Identity {
    /// A user in `groups`.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    /// The service account `name` of `namespace`, in the groups that Kubernetes gives it.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let own = format!("system:serviceaccounts:{namespace}");
        Self::new(&format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &own])
    }

    /// The name in names of files.
    fn slug(&self) -> String {
        self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }
}

/// What a control plane has beside the usual.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// Users beside [`ADMIN`], [`OPERATOR`] and [`TENANT`].
    pub identities: Vec<Identity>,
    /// More arguments of kube-apiserver.
    pub apiserver_args: Vec<String>,
    /// Whether namespaces are emptied and owned objects collected: starts kube-controller-manager too. Without
    /// `KUBEBUILDER_ASSETS` it is compiled at the first use, which takes some minutes.
    pub controller_manager: bool,
    /// The address that nodes and pods reach the API server by, where there are any: everything that they need of a control plane is
    /// on then. Without it the API server is on the loopback interface.
    pub nodes_reach: Option<Ipv4Addr>,
}

/// A running control plane.
pub struct ControlPlane {
    workdir: Arc<Workdir>,
    options: ControlPlaneOptions,
    identities: Vec<Identity>,
    assets: PathBuf,
    etcd_ports: [u16; 2],
    apiserver_port: u16,
    programs: Mutex<Programs>,
}

#[derive(Default)]
struct Programs {
    etcd: Option<Arc<Process>>,
    apiserver: Option<Arc<Process>>,
    manager: Option<Arc<Process>>,
}

impl ControlPlane {
    /// Starts one of its own, on free ports of 127.0.0.1, with the users [`ADMIN`], [`OPERATOR`] and [`TENANT`].
    ///
    /// # Errors
    /// When the programs are neither there nor can be built, or do not come up; with the end of their logs.
    pub async fn start() -> Result<Self> {
        Self::start_with(ControlPlaneOptions::default()).await
    }

    /// As [`Self::start`], with `options`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(options: ControlPlaneOptions) -> Result<Self> {
        let assets = assets(&options).await?;
        for attempt in 1.. {
            let plane = Self::prepare(options.clone(), assets.clone())?;
            match plane.bring_up().await {
                Ok(()) => return Ok(plane),
                Err(_) if attempt < ATTEMPTS && plane.met_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no free ports")
    }

    /// The one control plane that all tests of this executable share; each test uses namespaces of its own.
    ///
    /// It ends with the process.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    fn prepare(options: ControlPlaneOptions, assets: PathBuf) -> Result<Self> {
        let workdir = Arc::new(Workdir::new("controlplane")?);
        let mut identities = vec![
            Identity::new(ADMIN, &["system:masters"]),
            Identity::service_account("taskwatch-system", "taskwatch"),
            Identity::new(TENANT, &[]),
        ];
        identities.extend(options.identities.iter().cloned());
        let key = rcgen::KeyPair::generate().context("a key for service account tokens")?;
        workdir.write("sa.key", &key.serialize_pem())?;
        workdir.write("sa.pub", &key.public_key_pem())?;
        let tokens = identities.iter().enumerate().map(|(uid, who)| {
            let groups = who.groups.join(",");
            format!("{},{},uid-{uid},\"{groups}\"\n", token(&workdir, who), who.name)
        });
        workdir.write("tokens.csv", &tokens.collect::<String>())?;
        Ok(Self {
            etcd_ports: [free_port()?, free_port()?],
            apiserver_port: free_port()?,
            workdir,
            options,
            identities,
            assets,
            programs: Mutex::default(),
        })
    }

    async fn bring_up(&self) -> Result<()> {
        self.start_etcd().await?;
        self.start_apiserver().await?;
        ensure!(self.etcd()?.exit().is_none(), "etcd ended:\n{}", self.etcd()?.log_tail(20));
        if self.options.controller_manager || self.options.nodes_reach.is_some() {
            self.start_controller_manager()?;
        }
        Ok(())
    }

    /// Starts etcd, again on the same port with the same data.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_etcd(&self) -> Result<()> {
        let [client, peer] = self.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(self.assets.join("etcd"));
        command.arg("--name=default").arg(format!("--data-dir={}", self.path("etcd").display())).args([
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=default={peer}"),
        ]);
        // The data need not survive the machine.
        command.args(["--unsafe-no-fsync", "--log-level=warn"]);
        let process = Arc::new(Process::start(&self.workdir, "etcd", &command)?);
        self.programs().etcd = Some(Arc::clone(&process));
        eventually(ETCD_LIMIT, "etcd listens", || async {
            if process.exit().is_none() {
                tokio::net::TcpStream::connect(("127.0.0.1", self.etcd_ports[0])).await?;
            }
            Ok(())
        })
        .await?;
        ensure!(process.exit().is_none(), "etcd ended:\n{}", process.log_tail(20));
        Ok(())
    }

    /// Starts kube-apiserver, again on the same port with the same certificate, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within two minutes; with the end of its log.
    pub async fn start_apiserver(&self) -> Result<()> {
        let file = |name: &str| self.path(name).display().to_string();
        let mut command = Command::new(self.assets.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_ports[0]),
            // Should another plane's etcd have taken the port, nothing of it is touched before that is noticed.
            format!("--etcd-prefix=/{}", self.workdir.path().file_name().unwrap_or_default().display()),
            format!("--cert-dir={}", file("certs")),
            format!("--secure-port={}", self.apiserver_port),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
        ]);
        command.args([
            format!("--bind-address={}", self.host()),
            // Otherwise it looks for a default route, which a machine without a network has not.
            format!("--advertise-address={}", self.host()),
        ]);
        command.args([
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
        ]);
        command.args(match self.options.nodes_reach {
            Some(_) => ["--authorization-mode=Node,RBAC", "--kubelet-preferred-address-types=InternalIP"].as_slice(),
            // No controller makes the accounts that the plugin asks for; no pod runs here.
            None => &[
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ],
        });
        command.args(&self.options.apiserver_args);
        let process = Arc::new(Process::start(&self.workdir, "kube-apiserver", &command)?);
        self.programs().apiserver = Some(Arc::clone(&process));
        let ended = eventually(READY_LIMIT, "kube-apiserver is ready", || async {
            if process.exit().is_some() {
                return Ok(true);
            }
            let client = self.client_without_retries(ADMIN).await?;
            client.request_text(::http::Request::get("/readyz").body(Vec::new())?).await?;
            Ok(false)
        })
        .await
        .map_err(|error| error.context(format!("end of its log:\n{}", process.log_tail(20))))?;
        ensure!(!ended && process.exit().is_none(), "kube-apiserver ended:\n{}", process.log_tail(20));
        Ok(())
    }

    fn start_controller_manager(&self) -> Result<()> {
        let mut command = Command::new(self.assets.join("kube-controller-manager"));
        let kubeconfig = self.kubeconfig(ADMIN)?;
        command.arg(format!("--kubeconfig={}", kubeconfig.display())).args([
            "--bind-address=127.0.0.1",
            // It would serve nothing but its own metrics.
            "--secure-port=0",
            "--leader-elect=false",
        ]);
        command.args(match self.options.nodes_reach {
            // The API server's own certificate is what its clients trust.
            Some(_) => [("root-ca-file", "certs/apiserver.crt"), ("service-account-private-key-file", "sa.key")]
                .map(|(flag, file)| format!("--{flag}={}", self.path(file).display()))
                .to_vec(),
            None => vec!["--controllers=namespace-controller,garbage-collector-controller".to_owned()],
        });
        let process = Process::start(&self.workdir, "kube-controller-manager", &command)?;
        self.programs().manager = Some(Arc::new(process));
        Ok(())
    }

    /// Kills kube-apiserver (SIGKILL); [`Self::start_apiserver`] brings it back.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_apiserver(&self) -> Result<()> {
        kill(self.apiserver()?.as_ref()).await
    }

    /// Kills etcd (SIGKILL); [`Self::start_etcd`] brings it back with its data.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_etcd(&self) -> Result<()> {
        kill(self.etcd()?.as_ref()).await
    }

    /// The process of kube-apiserver: signals, log, memory.
    ///
    /// # Errors
    /// When it was never started.
    pub fn apiserver(&self) -> Result<Arc<Process>> {
        self.programs().apiserver.clone().context("kube-apiserver was not started")
    }

    /// The process of etcd.
    ///
    /// # Errors
    /// When it was never started.
    pub fn etcd(&self) -> Result<Arc<Process>> {
        self.programs().etcd.clone().context("etcd was not started")
    }

    /// The address of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host(), self.apiserver_port)
    }

    fn host(&self) -> Ipv4Addr {
        self.options.nodes_reach.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// A program that was built beside the API server.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.assets.join(name)
    }

    /// The directory of this control plane, removed at its end.
    #[must_use]
    pub fn workdir(&self) -> &Path {
        self.workdir.path()
    }

    /// A kubeconfig file of `user`.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let who = self.identities.iter().find(|who| who.name == user).with_context(|| {
            let known = self.identities.iter().map(|who| who.name.as_str()).collect::<Vec<_>>();
            format!("the control plane has no user {user}; it has {}", known.join(", "))
        })?;
        let path = self.path(&format!("kubeconfig-{}", who.slug()));
        if path.exists() {
            return Ok(path);
        }
        let name = "taskwatch-test";
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {
                "server": self.url(),
                "certificate-authority": self.path("certs/apiserver.crt"),
            }}],
            "users": [{"name": user, "user": {"token": token(&self.workdir, who)}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": "default"}}],
        });
        // JSON is YAML. By way of a rename, as another test may be reading it.
        let fresh =
            self.workdir.write(&format!("{}.{:?}", who.slug(), std::thread::current().id()), &config.to_string())?;
        std::fs::rename(&fresh, &path).context("cannot write the kubeconfig")?;
        Ok(path)
    }

    /// A client of `user`. It belongs to the runtime of the caller: each test takes its own.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn client(&self, user: &str) -> Result<Client> {
        Ok(Client::try_from(self.config(user).await?)?)
    }

    async fn client_without_retries(&self, user: &str) -> Result<Client> {
        let mut config = self.config(user).await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    async fn config(&self, user: &str) -> Result<kube::Config> {
        // Fails when it is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(user)?)?;
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(Duration::from_secs(10));
        // It is on this machine, whatever HTTPS_PROXY of the environment says.
        config.proxy_url = None;
        Ok(config)
    }

    /// Runs kubectl as [`ADMIN`], for at most a minute.
    ///
    /// # Errors
    /// When it cannot be run or takes too long. That it fails is no error here: see [`Output::success`].
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubectl_as(ADMIN)?.run(args).await
    }

    /// kubectl as `user`.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn kubectl_as(&self, user: &str) -> Result<Kubectl> {
        let own = self.assets.join("kubectl");
        Ok(Kubectl {
            // Where KUBEBUILDER_ASSETS has none, it was found in PATH.
            program: if own.exists() { own } else { PathBuf::from("kubectl") },
            kubeconfig: Some(self.kubeconfig(user)?),
            cache: self.path("kubectl-cache"),
            limit: kubectl::LIMIT,
        })
    }

    /// Stops everything and removes the directory; dropping it does the same without waiting.
    ///
    /// # Errors
    /// When a program does not end.
    pub async fn stop(self) -> Result<()> {
        let Programs { etcd, apiserver, manager } = std::mem::take(&mut *self.programs());
        for process in [manager, apiserver, etcd].into_iter().flatten() {
            process.stop().await?;
        }
        Ok(())
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, Programs> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn met_conflict(&self) -> bool {
        let Programs { etcd, apiserver, .. } = &*self.programs();
        [etcd, apiserver]
            .into_iter()
            .flatten()
            .any(|p| p.exit().is_some() && p.log().contains("address already in use"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workdir.path().join(name)
    }
}

async fn kill(process: &Process) -> Result<()> {
    process.kill()?;
    process.wait(Duration::from_secs(10)).await.map(drop)
}

/// Random enough for a server that only this machine reaches, and the same whenever it is asked for.
fn token(workdir: &Workdir, who: &Identity) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    static SECRET: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    let secret = SECRET.get_or_init(RandomState::new);
    format!(
        "{:016x}{:016x}",
        secret.hash_one((workdir.path(), &who.name)),
        secret.hash_one((&who.name, workdir.path()))
    )
}

/// The directory with etcd, kube-apiserver and kubectl; the first call may take the ten minutes of compiling them.
async fn assets(options: &ControlPlaneOptions) -> Result<PathBuf> {
    let arguments: &[_] = match options {
        ControlPlaneOptions { nodes_reach: Some(_), .. } => &["--with-node"],
        ControlPlaneOptions { controller_manager: true, .. } => &["--with-controller-manager"],
        _ => &[],
    };
    build("controlplane", arguments, BUILD_LIMIT).await
}
