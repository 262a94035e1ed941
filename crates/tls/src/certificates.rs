//! Which of its certificates a server shows.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{CertInfo, Error, Identity};

/// The certificates of a server, in their order.
#[derive(Debug)]
pub(crate) struct Certificates(Vec<(Arc<CertifiedKey>, CertInfo)>);

impl Certificates {
    pub(crate) fn new(identity: &Identity) -> Result<Self, Error> {
        let all: Vec<_> = identity.certificates().cloned().collect();
        if all.is_empty() {
            return Err(Error::Config("a server needs a certificate".to_owned()));
        }
        Ok(Certificates(all))
    }

    /// The first certificate that has the name that the client asks for and a key whose signatures
    /// it takes, as itself before a pattern; else the first with such a key; else the first.
    fn choose(
        &self,
        name: Option<&str>,
        fits: impl Fn(&CertifiedKey) -> bool,
    ) -> &Arc<CertifiedKey> {
        let fitting = || self.0.iter().filter(|(key, _)| fits(key));
        let by = |test: fn(&CertInfo, &str) -> bool| {
            let name = name?;
            fitting().find(|(_, info)| test(info, name))
        };
        let chosen = by(has_name).or_else(|| by(has_pattern));
        let chosen = chosen.or_else(|| fitting().next());
        &chosen.unwrap_or(&self.0[0]).0
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [(only, _)] = &self.0[..] {
            return Some(only.clone());
        }
        let schemes = hello.signature_schemes();
        let fits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        Some(self.choose(hello.server_name(), fits).clone())
    }
}

/// The DNS names of a certificate; the common name counts where it has none.
fn names(info: &CertInfo) -> impl Iterator<Item = &str> {
    let common = info.common_name.iter().filter(|_| info.dns.is_empty());
    info.dns.iter().chain(common).map(String::as_str)
}

fn has_name(info: &CertInfo, name: &str) -> bool {
    names(info).any(|own| own.eq_ignore_ascii_case(name))
}

/// A star stands for the first label of a name.
fn has_pattern(info: &CertInfo, name: &str) -> bool {
    let Some((_, parent)) = name.split_once('.') else {
        return false;
    };
    let mut patterns = names(info).filter_map(|own| own.strip_prefix("*."));
    patterns.any(|own| own.eq_ignore_ascii_case(parent))
}
