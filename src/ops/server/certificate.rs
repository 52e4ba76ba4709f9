//! The certificate that a port shows, from files that may change: whoever renews it (cert-manager, the kubelet) replaces them.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
};

/// Larger files are neither a certificate nor a key.
const MAX_SIZE: u64 = 1 << 20;
/// The files are read again this often.
const FRESH: Duration = Duration::from_secs(10);

/// Where the certificate and its key are, in PEM.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The certificate, as it was last read.
pub(super) struct Certificate {
    files: CertificateFiles,
    content: [Vec<u8>; 2],
    config: Arc<ServerConfig>,
    at: Instant,
    /// What is wrong with what the files hold now, that it is said once.
    trouble: Option<String>,
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read or used: which file, and why.
    pub(super) fn load(files: CertificateFiles, now: Instant) -> Result<Self, String> {
        let content = content(&files)?;
        let config = config(&content)?;
        Ok(Self { files, content, config, at: now, trouble: None })
    }

    /// What is to be shown now. Files that cannot be used change nothing: the last good ones stay.
    pub(super) fn current(&mut self, now: Instant) -> Arc<ServerConfig> {
        if now.duration_since(self.at) >= FRESH {
            self.at = now;
            let trouble = self.renew().err();
            if let Some(trouble) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(*trouble)) {
                tracing::warn!("the certificate that was read last is shown further on: {trouble}");
            }
            self.trouble = trouble;
        }
        Arc::clone(&self.config)
    }

    fn renew(&mut self) -> Result<(), String> {
        let content = content(&self.files)?;
        if content != self.content {
            // Where only one of them has been replaced yet, they do not belong together: the next look finds both.
            self.config = config(&content)?;
            self.content = content;
            tracing::info!(certificate = %self.files.certificate.display(), "a new certificate is shown from now on");
        }
        Ok(())
    }
}

fn content(files: &CertificateFiles) -> Result<[Vec<u8>; 2], String> {
    Ok([read(&files.certificate)?, read(&files.key)?])
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut content));
    file.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(content)
}

fn config([certificate, key]: &[Vec<u8>; 2]) -> Result<Arc<ServerConfig>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| format!("the certificate is not in PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate is not in PEM".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key is not in PEM: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key cannot be used: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A connection has one request: nothing is kept for the next.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
