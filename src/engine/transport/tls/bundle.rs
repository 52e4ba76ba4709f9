//! CA bundles as people have them: certificates in PEM among comments in any encoding, with any line breaks. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{RootCertStore, pki_types::CertificateDer};

use super::{Fingerprint, fingerprint};

/// Largest bundle, in bytes: the same for `spec.tls.caBundle` and for what `spec.tls.caBundleRef` names.
const SIZE: usize = crate::api::bounds::PEM;
/// Most certificates of a bundle.
const CERTIFICATES: usize = 64;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The certificates of a bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    /// As authorities.
    pub(super) roots: RootCertStore,
    /// What stands for each, for servers that show one of them.
    pub(super) certificates: Vec<Fingerprint>,
    /// What is wrong with those that cannot be read.
    pub(super) skipped: Vec<String>,
}

impl Bundle {
    /// Reads a bundle. A certificate that cannot be read is skipped while there are others.
    ///
    /// # Errors
    /// No certificate can be read, or the bundle is too large.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        if pem.len() > SIZE {
            return Err(format!("it has {} bytes, at most {SIZE} are allowed", pem.len()));
        }
        let mut bundle = Self { roots: RootCertStore::empty(), certificates: Vec::new(), skipped: Vec::new() };
        for (index, text) in texts(pem).enumerate() {
            let place = index + 1;
            if place > CERTIFICATES {
                return Err(format!("it has more than {CERTIFICATES} certificates"));
            }
            let Some(der) = decode(text) else {
                bundle.skipped.push(format!("certificate {place} is not well-formed PEM"));
                continue;
            };
            if bundle.roots.add(der.clone()).is_err() {
                bundle.skipped.push(format!("certificate {place} is not an X.509 certificate that can be read"));
                continue;
            }
            bundle.certificates.push(fingerprint(&der));
        }
        if !bundle.certificates.is_empty() {
            return Ok(bundle);
        }
        Err(bundle.skipped.into_iter().next().unwrap_or_else(|| {
            "it holds no certificate; give the CA as PEM, which begins with -----BEGIN CERTIFICATE-----".to_owned()
        }))
    }
}

/// What stands between the marks of each certificate.
fn texts(mut pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let start = find(pem, BEGIN)? + BEGIN.len();
        let rest = pem.get(start..)?;
        // One without an end does not swallow the next.
        let next = find(rest, BEGIN).unwrap_or(rest.len());
        let end = find(rest, END).filter(|end| *end < next);
        let (text, after) = rest.split_at(end.unwrap_or(next));
        pem = after;
        Some(if end.is_some() { text } else { &[] })
    })
}

fn decode(text: &[u8]) -> Option<CertificateDer<'static>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok().filter(|der| !der.is_empty()).map(CertificateDer::from)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn certificates_are_found_among_anything_else() {
        let (one, two) = (certificate("one.test"), certificate("two.test"));
        let crlf = one.replace('\n', "\r\n");
        let indented = one.replace('\n', "\n    ");
        let old_mac = one.replace('\n', "\r");
        for (bundle, count) in [
            (one.clone().into_bytes(), 1),
            (format!("{one}{two}").into_bytes(), 2),
            (format!("\u{feff}{one}").into_bytes(), 1),
            (format!("# Удостоверяющий центр\n{one}\ntext between\n{two}trailing").into_bytes(), 2),
            ([b"# \xd3\xc4\xb4 \xff\xfe\x00 CP1251\r\n", crlf.as_bytes()].concat(), 1),
            (indented.into_bytes(), 1),
            (old_mac.into_bytes(), 1),
            (one.replace("\n-----END", "-----END").into_bytes(), 1),
        ] {
            let read = Bundle::read(&bundle).unwrap();
            assert_eq!((read.certificates.len(), read.roots.len(), read.skipped.len()), (count, count, 0));
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_skipped_and_named() {
        let good = certificate("good.test");
        let broken = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let endless = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        let read = Bundle::read(format!("{broken}{good}{other}{endless}{good}").as_bytes()).unwrap();
        assert_eq!(read.certificates.len(), 2);
        assert_eq!(
            read.skipped,
            [
                "certificate 1 is not well-formed PEM",
                "certificate 3 is not an X.509 certificate that can be read",
                "certificate 4 is not well-formed PEM"
            ]
        );
        assert_eq!(Bundle::read(broken.as_bytes()).unwrap_err(), "certificate 1 is not well-formed PEM");
    }

    #[test]
    fn its_size_is_bounded() {
        let one = certificate("one.test");
        assert!(Bundle::read(one.repeat(64).as_bytes()).is_ok());
        assert!(Bundle::read(one.repeat(65).as_bytes()).unwrap_err().contains("more than 64 certificates"));
        assert!(Bundle::read(&vec![b'x'; SIZE + 1]).unwrap_err().contains("at most 65536"));
    }
}
