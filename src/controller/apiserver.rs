//! Keeps the addresses of the API server's own endpoints in the egress policy: no connection leads there, whatever the address is that
//! the operator itself speaks to.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::ListParams};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Error, call};
use crate::engine::egress::EgressPolicy;

/// How often they are read. They change when control-plane nodes do.
const EVERY: Duration = Duration::from_secs(180);
/// The service that stands for the API server in every cluster, and its namespace.
const SERVICE: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// Reads them once, then from time to time until `stop`.
pub(super) async fn follow(client: Client, policy: EgressPolicy, stop: CancellationToken) {
    let mut told = false;
    loop {
        match read(&client).await {
            Ok(addresses) => policy.set_api_server_endpoints(addresses),
            Err(error) if !told => {
                told = true;
                let what = "the endpoints of the API server cannot be read: connections are kept from its configured addresses only";
                if matches!(&error, Error::Api(kube::Error::Api(status)) if status.is_forbidden()) {
                    info!(
                        "{what} (it may not get the Service kubernetes and list EndpointSlices in the namespace default)"
                    );
                } else {
                    warn!(%error, "{what}; retrying");
                }
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn read(client: &Client) -> Result<Vec<SocketAddr>, Error> {
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}")).limit(100);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let mut addresses: Vec<_> = call(slices.list(&of_service)).await?.iter().flat_map(of_slice).collect();
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    addresses.extend(of_service_object(&call(services.get(SERVICE)).await?));
    Ok(addresses)
}

fn of_slice(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| port.port);
    let ips: Vec<_> = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).cloned().collect();
    pairs(&ips, ports)
}

fn of_service_object(service: &Service) -> Vec<SocketAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.iter().flatten().map(|port| port.port);
    pairs(spec.cluster_ips.as_deref().unwrap_or_default(), ports)
}

fn pairs(ips: &[String], ports: impl Iterator<Item = i32>) -> Vec<SocketAddr> {
    let ports: Vec<u16> = ports.filter_map(|port| port.try_into().ok()).collect();
    let ips = ips.iter().filter_map(|ip| ip.parse().ok());
    ips.flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_address_of_slices_and_service_is_taken_with_its_port() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["203.0.113.7"]}, {"addresses": ["10.0.0.5", "not an address"]}],
            "ports": [{"name": "https", "port": 6443}],
        }))
        .unwrap();
        let expected: Vec<SocketAddr> = vec!["203.0.113.7:6443".parse().unwrap(), "10.0.0.5:6443".parse().unwrap()];
        assert_eq!(of_slice(&slice), expected);
        let service: Service = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {},
            "spec": {"clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 443}]},
        }))
        .unwrap();
        let expected: Vec<SocketAddr> = vec!["10.96.0.1:443".parse().unwrap(), "[fd00::1]:443".parse().unwrap()];
        assert_eq!(of_service_object(&service), expected);
    }
}
