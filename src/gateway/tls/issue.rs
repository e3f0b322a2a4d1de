//! Makes a CA and the one certificate that it signs. The CA's key ends here: it is never written, so that no further
//! certificate can be signed with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::pool::Wall;

/// How long a certificate is valid.
const LIFE: u64 = 365 * DAY;
/// It is valid from this time before it is made: the clock may be set back a little.
const BACKDATED: u64 = DAY;
pub(super) const DAY: u64 = 86_400_000;
/// The length of a line of PEM.
const PEM_LINE: usize = 64;

/// The name that every loopback address may have; names below it are loopback names too.
const LOOPBACK_NAME: &str = "localhost";
const LOOPBACK_V4: CidrSubnet = CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]);
const LOOPBACK_V6: CidrSubnet = CidrSubnet::V6(Ipv6Addr::LOCALHOST.octets(), [0xff; 16]);

/// A certificate for loopback, its key, and the CA that has signed it; PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IssuedCertificate {
    /// The CA's certificate: what clients trust.
    pub(super) ca: String,
    /// What the gateway shows.
    pub(super) certificate: String,
    /// The key of that.
    pub(super) key: Zeroizing<String>,
    /// The first and the last moment at which it is valid.
    pub(super) valid_from: Wall,
    pub(super) valid_until: Wall,
}

impl std::fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let validity = (self.valid_from, self.valid_until);
        f.debug_struct("IssuedCertificate").field("validity", &validity).finish_non_exhaustive()
    }
}

/// A certificate for loopback, signed by a CA of its own.
///
/// # Errors
/// When there is no random number for the keys.
pub(super) fn issue(now: Wall) -> Result<IssuedCertificate, rcgen::Error> {
    issue_for(&[LOOPBACK_NAME], now)
}

/// A certificate for these names and the loopback addresses.
fn issue_for(names: &[&str], now: Wall) -> Result<IssuedCertificate, rcgen::Error> {
    // certificates count seconds
    let (valid_from, valid_until) = (whole_second(now.0.saturating_sub(BACKDATED)), whole_second(now.0 + LIFE));
    let epoch = date_time_ymd(1970, 1, 1);
    let dated = |mut params: CertificateParams, name: String| {
        params.not_before = epoch + Duration::from_millis(valid_from.0);
        params.not_after = epoch + Duration::from_millis(valid_until.0);
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    authority.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName(LOOPBACK_NAME.to_owned()),
            GeneralSubtree::IpAddress(LOOPBACK_V4),
            GeneralSubtree::IpAddress(LOOPBACK_V6),
        ],
        excluded_subtrees: Vec::new(),
    });
    // each has a name of its own: a client that trusts two of them tells them apart
    let authority = dated(authority, format!("lessor on this computer, {}", valid_from.0 / 1000));
    let mut authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let mut leaf = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    leaf.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf = dated(leaf, LOOPBACK_NAME.to_owned());
    let mut key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key));
    authority_key.zeroize();
    let issued = certificate.map(|certificate| IssuedCertificate {
        ca: pem("CERTIFICATE", ca.der()),
        certificate: pem("CERTIFICATE", certificate.der()),
        key: Zeroizing::new(pem("PRIVATE KEY", key.serialized_der())),
        valid_from,
        valid_until,
    });
    key.zeroize();
    issued
}

impl IssuedCertificate {
    /// Checks that clients which trust the CA accept the certificate until the end of its validity.
    ///
    /// # Errors
    /// Why they do not.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_accepted = |at: Wall| accepts(&self.ca, &self.certificate, LOOPBACK_NAME, at.0);
        is_accepted(self.valid_from).and_then(|()| is_accepted(self.valid_until))
    }
}

/// What a client says that trusts `ca` and is shown the certificate as this server, so many ms after 1970.
fn accepts(ca: &str, certificate: &str, name: &str, at: u64) -> Result<(), String> {
    let invalid = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| invalid(&error));
    let mut roots = RootCertStore::empty();
    roots.add(read(ca)?).map_err(|error| invalid(&error))?;
    let provider = rustls::crypto::ring::default_provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.into()).build();
    let verifier = verifier.map_err(|error| invalid(&error))?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| invalid(&error))?;
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at));
    let verified = verifier.verify_server_cert(&read(certificate)?, &[], &name, &[], at);
    verified.map(drop).map_err(|error| invalid(&error))
}

fn whole_second(at: u64) -> Wall {
    Wall(at / 1000 * 1000)
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_796_000_000_123;

    #[test]
    fn a_certificate_is_for_loopback_names_and_for_its_time() {
        let issued = issue(Wall(NOW)).unwrap();
        let says = |name, at| accepts(&issued.ca, &issued.certificate, name, at);
        for name in ["localhost", "127.0.0.1", "::1"] {
            says(name, NOW).unwrap();
        }
        for name in ["example.com", "127.0.0.2", "10.0.0.1", "localhost.example.com"] {
            assert!(says(name, NOW).unwrap_err().contains("NotValidForName"), "{name}");
        }
        says("localhost", issued.valid_from.0).unwrap();
        assert!(says("localhost", issued.valid_from.0 - 1000).unwrap_err().contains("NotValidYet"));
        says("localhost", issued.valid_until.0).unwrap();
        assert!(says("localhost", issued.valid_until.0 + 1000).unwrap_err().contains("Expired"));
        assert_eq!((issued.valid_from.0 % 1000, issued.valid_until.0 - NOW + 123), (0, LIFE));
    }

    #[test]
    fn a_ca_can_sign_for_no_other_name() {
        for name in ["example.com", "xlocalhost", "localhost.example.com"] {
            let issued = issue_for(&[name], Wall(NOW)).unwrap();
            let error = accepts(&issued.ca, &issued.certificate, name, NOW).unwrap_err();
            assert!(error.contains("NameConstraintViolation"), "{name}: {error}");
        }
        let below = issue_for(&["agent.localhost"], Wall(NOW)).unwrap();
        accepts(&below.ca, &below.certificate, "agent.localhost", NOW).unwrap();
    }

    #[test]
    fn each_certificate_has_a_ca_of_its_own() {
        let (one, other) = (issue(Wall(NOW)).unwrap(), issue(Wall(NOW)).unwrap());
        assert!(accepts(&one.ca, &other.certificate, "localhost", NOW).is_err());
        assert_ne!(one.key, other.key);
        assert!(!format!("{one:?}").contains("PRIVATE"), "{one:?}");
    }
}
