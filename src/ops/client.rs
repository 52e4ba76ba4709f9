//! The client of the Kubernetes API server: from a kubeconfig or the pod's service account, with its requests counted.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};
use http::{Request, StatusCode};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::layer::layer_fn;

use super::{args::RunArgs, around::Around, metrics::Metrics, token_file::TokenFile};

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
    let host = format!("{host}:{port}");
    let count = move |request: &mut Request<Body>| {
        let (metrics, method, host) = (metrics.clone(), request.method().clone(), host.clone());
        move |status: Option<StatusCode>| {
            let code = status.map_or_else(|| "<error>".to_owned(), |status| status.as_str().to_owned());
            metrics.rest_request(code, method.as_str(), host);
        }
    };
    // Without a file the client signs them itself.
    let sign = move |request: &mut Request<Body>| {
        let signed = token.as_ref().map(|token| token.sign(request));
        move |status| {
            if let Some(signed) = signed {
                signed(status);
            }
        }
    };
    let counted = layer_fn(move |inner| Around { inner, before: count.clone() });
    let signed = layer_fn(move |inner| Around { inner, before: sign.clone() });
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
