//! The certificate: read from PEM files, and read again when they have changed.
//!
//! Whoever renews certificates replaces files and need not know of us, so no signal and no call is asked for: the files'
//! times are looked at when a connection comes in, at most every few seconds. What can't be used is logged, and the
//! certificate that works stays.

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where the certificate is.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The certificate and those up to its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why there can be no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{}` can't be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: rustls_pki_types::pem::Error },
    #[error("`{}` has no certificate: it begins with `-----BEGIN CERTIFICATE-----`", .0.display())]
    NoCertificate(PathBuf),
    #[error("`{}` has no private key: it has a `-----BEGIN PRIVATE KEY-----`, unencrypted", .0.display())]
    NoKey(PathBuf),
    #[error("the certificate `{}` and the key `{}` can't be used: {error}", certificate.display(), key.display())]
    Unusable { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

impl TlsError {
    /// A file that can't be read now may be there a moment later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

/// The certificate in use.
pub(super) struct Tls {
    files: TlsConfig,
    config: Arc<ServerConfig>,
    /// The state of the files when they were last read, with or without success.
    read: State,
    looked: Instant,
}

type State = [Option<(SystemTime, u64)>; 2];

impl Tls {
    pub(super) fn open(files: TlsConfig) -> Result<Self, TlsError> {
        // Looked at before they are read: a change in between is read once too often, not once too little.
        let read = state(&files);
        Ok(Self { config: load(&files)?, files, read, looked: Instant::now() })
    }

    /// The configuration for a connection that comes in now.
    pub(super) fn current(&mut self) -> Arc<ServerConfig> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.reload();
        }
        Arc::clone(&self.config)
    }

    fn reload(&mut self) {
        let now = state(&self.files);
        if now == self.read {
            return;
        }
        self.read = now;
        match load(&self.files) {
            Ok(config) => {
                self.config = config;
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
            }
            // Often one of the two files is a moment late, and its coming changes the state once more.
            Err(error) => tracing::error!(%error, "the changed certificate can't be used, the one before stays"),
        }
    }
}

fn state(files: &TlsConfig) -> State {
    let state = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    [state(&files.certificate), state(&files.key)]
}

fn load(files: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    use rustls_pki_types::pem::Error;
    let unreadable = |path: &Path, error| TlsError::Unreadable { path: path.to_owned(), error };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, Error>>)
        .map_err(|error| unreadable(&files.certificate, error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        Error::NoItemsFound => TlsError::NoKey(files.key.clone()),
        error => unreadable(&files.key, error),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsError::Unusable {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            error,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
