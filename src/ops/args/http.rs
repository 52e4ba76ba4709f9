//! The flags of the port that others than the kubelet reach.

// The comments are the help text, where backticks would only be in the way.
#![allow(clippy::doc_markdown)]

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::ops::admin::CertificateFiles;

/// How /metrics and /debug/connections are served.
#[derive(Clone, Debug, Args)]
pub struct HttpArgs {
    /// Where /metrics and /debug/connections are served, as address:port; port 0 takes a free one and logs it
    #[arg(long = "http-address", env = "TASKWATCH_HTTP_ADDRESS", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub address: SocketAddr,

    /// Serve them to those alone whose bearer token the Kubernetes API server knows, and whom it lets get these paths
    ///
    /// A role with nonResourceURLs [/metrics] and the verb get is what Prometheus needs then; the operator itself has to be allowed to
    /// create tokenreviews and subjectaccessreviews. Without it, /metrics is open to all who reach the port. /debug/connections is shown
    /// in either case to who asks from the pod itself, as kubectl port-forward does.
    #[arg(long = "http-authorization", env = "TASKWATCH_HTTP_AUTHORIZATION")]
    pub authorization: bool,

    /// Serve them by https with this certificate, in PEM, followed by those between it and its authority; it is read again when it
    /// changes
    #[arg(long = "http-tls-cert", env = "TASKWATCH_HTTP_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --http-tls-cert, in PEM
    #[arg(long = "http-tls-key", env = "TASKWATCH_HTTP_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl HttpArgs {
    /// The files of the certificate; none where it is http.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(CertificateFiles { certificate, key })
    }
}
