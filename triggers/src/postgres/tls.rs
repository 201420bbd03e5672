//! TLS to a database: as far as its `sslmode` trusts the server.

use dunlin_events::manifest::{DatabaseUrl, SslMode};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What a client sends to ask for TLS: a length, and a version that never was.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("`{path}` can't be read: {reason}")]
    Roots { path: String, reason: String },
    #[error("`{0}` has no certificate")]
    NoRoots(String),
    #[error("`{0}` is no name a certificate can have")]
    Name(String),
    #[error("the server has no TLS")]
    Refused,
    #[error("no TLS with the server: {0}")]
    Handshake(io::Error),
    #[error("no TLS can be set up: {0}")]
    Setup(String),
}

impl TlsError {
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Roots { .. } | Self::NoRoots(_) => {
                Some("`sslrootcert` is a file on the platform's machine that begins with `-----BEGIN CERTIFICATE-----`")
            }
            Self::Refused => Some("turn `ssl` on there, or write `?sslmode=disable` where the network itself is safe"),
            Self::Handshake(error) if error.to_string().contains("certificate") => Some(
                "name the authority's certificate: `?sslmode=verify-full&sslrootcert=/path/ca.pem`; `sslmode=verify-ca` accepts another host's name",
            ),
            _ => None,
        }
    }
}

/// What makes TLS connections to this server; `None` where nothing is to be encrypted.
pub(super) fn connector(url: &DatabaseUrl) -> Result<Option<TlsConnector>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = match url.sslmode {
        SslMode::Disable => return Ok(None),
        SslMode::Require => Arc::new(Lenient { authorities: None, provider: Arc::clone(&provider) }),
        SslMode::VerifyCa | SslMode::VerifyFull => {
            let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(url)?), Arc::clone(&provider))
                .build()
                .map_err(|error| setup(&error))?;
            if url.sslmode == SslMode::VerifyFull {
                authorities
            } else {
                Arc::new(Lenient { authorities: Some(authorities), provider: Arc::clone(&provider) })
            }
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn roots(url: &DatabaseUrl) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &url.sslrootcert {
        Some(path) => {
            let unreadable =
                |reason: &dyn std::fmt::Display| TlsError::Roots { path: path.clone(), reason: reason.to_string() };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
            for certificate in certificates {
                roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
            }
            if roots.is_empty() {
                return Err(TlsError::NoRoots(path.clone()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots("the system's certificate store".into()));
            }
        }
    }
    Ok(roots)
}

/// Asks the server for TLS on a new connection.
pub(super) async fn handshake(
    connector: TlsConnector,
    mut stream: TcpStream,
    url: &DatabaseUrl,
) -> Result<TlsStream<TcpStream>, TlsError> {
    stream.write_all(&SSL_REQUEST).await.map_err(TlsError::Handshake)?;
    // One byte exactly: whatever came with it in clear must not be read as if it had come encrypted.
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(TlsError::Handshake)?;
    if answer != *b"S" {
        return Err(TlsError::Refused);
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|_| TlsError::Name(url.host.clone()))?;
    connector.connect(name, stream).await.map_err(TlsError::Handshake)
}

/// Accepts a certificate whatever name it is for, and without authorities whoever made it.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last: all else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
