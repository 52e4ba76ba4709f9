//! The client of the Kubernetes API server: from a kubeconfig or the pod's service account, with its requests counted.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, layer::layer_fn, util::BoxService};

use super::{args::RunArgs, around::Around, fence::Fence, metrics::Metrics, proxy::Proxy, token_file::TokenFile};

/// What kube makes a client from.
pub(super) type Transport = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// How long the API server's name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client, and the addresses of the API server, which no connection may reach.
///
/// # Errors
/// When there is no usable configuration.
pub async fn connect(args: &RunArgs, metrics: &Metrics) -> Result<(Client, Vec<SocketAddr>)> {
    let (mut config, own_proxy) = configuration(args).await?;
    let proxy = match own_proxy {
        Some(url) => Some(Proxy::parse(&url).context("proxy-url of the kubeconfig cannot be used")?),
        None => Proxy::from_environment(&config.cluster_url, |name| std::env::var(name).ok())?,
    };
    // kube's own reading of the environment: see `proxy`.
    config.proxy_url = None;
    // The work queue tries again itself, with a wait for each object.
    config.default_retry = false;
    let token = TokenFile::take(&mut config.auth_info)?;
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let mut addresses = resolve(&host, port).await;
    let service = |name| std::env::var(name).unwrap_or_default();
    if let Ok(port) = service("KUBERNETES_SERVICE_PORT").parse() {
        addresses.extend(resolve(&service("KUBERNETES_SERVICE_HOST"), port).await);
    }
    let metrics = metrics.clone();
    let count = move |request: &mut Request<Body>| {
        let (metrics, method) = (metrics.clone(), request.method().clone());
        move |status: Option<StatusCode>| {
            metrics.rest_request(status.as_ref().map_or("<error>", StatusCode::as_str), method.as_str());
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
    let fenced = layer_fn(|inner| Fence { inner });
    let builder = match proxy {
        None => ClientBuilder::<Transport>::try_from(config).map_err(anyhow::Error::from),
        Some(proxy) => {
            tracing::info!(%proxy, "the API server is reached by way of a proxy");
            proxy.client(&config)
        }
    };
    let builder = builder.context("cannot make a client of the Kubernetes API server")?;
    Ok((builder.with_layer(&fenced).with_layer(&signed).with_layer(&counted).build(), addresses))
}

/// The configuration, and the proxy that the kubeconfig names for its cluster.
async fn configuration(args: &RunArgs) -> Result<(Config, Option<String>)> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let of = async |file: Kubeconfig| {
        let proxy = proxy_url(&file, args.context.as_deref());
        Config::from_custom_kubeconfig(file, &options).await.map(|config| (config, proxy))
    };
    match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            of(file).await.context("the kubeconfig cannot be used")
        }
        None if args.context.is_some() => {
            of(Kubeconfig::read().context("cannot read the kubeconfig")?).await.context("the kubeconfig cannot be used")
        }
        None => {
            let found = match Kubeconfig::read() {
                Ok(file) => of(file).await,
                Err(error) => Err(error),
            };
            found.or_else(|error| {
                let in_cluster = Config::incluster().map(|config| (config, None));
                in_cluster.with_context(|| {
                    format!(
                        "there is neither a usable kubeconfig ({error}) nor a service account: give --kubeconfig, or run \
                         inside a cluster"
                    )
                })
            })
        }
    }
}

/// `proxy-url` of the cluster that a context names; of the current one where none is given.
fn proxy_url(file: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let context = context.or(file.current_context.as_deref())?;
    let context = file.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = file.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

/// All addresses of a host; none where it has none, since then nothing can reach it.
async fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.trim_matches(['[', ']']), port)));
    found.await.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfigs_proxy_is_that_of_the_contexts_cluster() {
        let file = Kubeconfig::from_yaml(
            r"
            current-context: one
            contexts:
            - {name: one, context: {cluster: a}}
            - {name: two, context: {cluster: b}}
            clusters:
            - {name: a, cluster: {server: 'https://a', proxy-url: 'http://p:1'}}
            - {name: b, cluster: {server: 'https://b', proxy-url: ''}}",
        )
        .unwrap();
        assert_eq!(proxy_url(&file, None).as_deref(), Some("http://p:1"));
        assert_eq!(proxy_url(&file, Some("two")), None);
        assert_eq!(proxy_url(&file, Some("none")), None);
    }
}
