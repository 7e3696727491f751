use crate::Scratch;
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::SystemTime;

/// A certificate authority for one test, made without the product's own `culvert pki`, so that one checks the other.
///
/// Keys are P-256 in PKCS#8 PEM, which rustls, OpenSSL and the JVM all read. The files live as long as the authority.
pub struct TestCa {
    scratch: Scratch,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Three PEM files: whom to trust, who one is, and the key to it.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The own certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TestCa {
    /// An authority called `name`.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new(name: &str) -> anyhow::Result<TestCa> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let scratch = Scratch::new("ca")?;
        scratch.write("ca.pem", &issuer.pem())?;
        Ok(TestCa { scratch, issuer })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    /// For a server on loopback: `localhost`, 127.0.0.1 and `name`.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn server(&self, name: &str) -> anyhow::Result<TlsFiles> {
        let sans = vec![
            SanType::DnsName("localhost".try_into()?),
            SanType::DnsName(name.try_into()?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        self.issue(
            name,
            sans,
            &[
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        )
    }

    /// For a client called `name`.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn client(&self, name: &str) -> anyhow::Result<TlsFiles> {
        self.issue(name, Vec::new(), &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// For a gateway: URI SAN `spiffe://<trust_domain>/<name>` and the name as DNS SAN.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn gateway(&self, trust_domain: &str, name: &str) -> anyhow::Result<TlsFiles> {
        self.sign_gateway(CertificateParams::default(), trust_domain, name)
    }

    /// As [`TestCa::gateway`] with a last moment of its own, for certificates that expire during a test.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn gateway_until(&self, trust_domain: &str, name: &str, end: SystemTime) -> anyhow::Result<TlsFiles> {
        let mut params = CertificateParams::default();
        params.not_after = end.into();
        self.sign_gateway(params, trust_domain, name)
    }

    fn sign_gateway(
        &self,
        params: CertificateParams,
        trust_domain: &str,
        name: &str,
    ) -> anyhow::Result<TlsFiles> {
        let sans = vec![
            SanType::URI(format!("spiffe://{trust_domain}/{name}").try_into()?),
            SanType::DnsName(name.try_into()?),
        ];
        let usages = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(params, name, sans, &usages)
    }

    fn issue(
        &self,
        name: &str,
        sans: Vec<SanType>,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> anyhow::Result<TlsFiles> {
        self.sign(CertificateParams::default(), name, sans, usages)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        sans: Vec<SanType>,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> anyhow::Result<TlsFiles> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &*self.issuer)
            .with_context(|| format!("issue {name}"))?;
        Ok(TlsFiles {
            ca: self.certificate(),
            certificate: self.scratch.write(&format!("{name}.pem"), &certificate.pem())?,
            key: self.scratch.write(&format!("{name}.key"), &key.serialize_pem())?,
        })
    }
}
