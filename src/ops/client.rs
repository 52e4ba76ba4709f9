//! The client of the Kubernetes API server: from a kubeconfig or the pod's service account, with its requests counted.

use std::{
    future::Future,
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    task::{Context as Poller, Poll},
};

use anyhow::{Context, Result};
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{Service, layer::layer_fn};

use super::{
    args::RunArgs,
    metrics::Metrics,
    token_file::{Signed, TokenFile},
};

/// A client, and the addresses of the API server, which no connection may reach.
///
/// # Errors
/// When there is no usable configuration.
pub async fn connect(args: &RunArgs, metrics: &Metrics) -> Result<(Client, Vec<SocketAddr>)> {
    let mut config = configuration(args).await?;
    // The work queue tries again itself, with a wait for each object.
    config.default_retry = false;
    let token = TokenFile::take(&mut config.auth_info)?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let mut addresses = resolve(&host, port);
    let service = |name| std::env::var(name).unwrap_or_default();
    if let Ok(port) = service("KUBERNETES_SERVICE_PORT").parse() {
        addresses.extend(resolve(&service("KUBERNETES_SERVICE_HOST"), port));
    }
    let metrics = metrics.clone();
    let counted = layer_fn(move |inner| Counted { inner, metrics: metrics.clone(), host: format!("{host}:{port}") });
    let signed = layer_fn(move |inner| Signed { inner, token: token.clone() });
    let builder = ClientBuilder::try_from(config).context("cannot make a client of the Kubernetes API server")?;
    Ok((builder.with_layer(&signed).with_layer(&counted).build(), addresses))
}

async fn configuration(args: &RunArgs) -> Result<Config> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options).await.context("the kubeconfig cannot be used")
        }
        None if args.context.is_some() => {
            Config::from_kubeconfig(&options).await.context("the kubeconfig cannot be used")
        }
        None => Config::infer().await.context(
            "there is neither a usable kubeconfig nor a service account: give --kubeconfig, or run inside a cluster",
        ),
    }
}

/// All addresses of a host; none where it has none, since then nothing can reach it.
fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    (host.trim_matches(['[', ']']), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

/// Counts the requests that pass.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    metrics: Metrics,
    host: String,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().clone();
        let (metrics, host) = (self.metrics.clone(), self.host.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code =
                answer.as_ref().map_or_else(|_| "<error>".to_owned(), |answer| answer.status().as_str().to_owned());
            metrics.rest_request(code, method.as_str(), host);
            answer
        })
    }
}
