//! Certificates in files of the container, which Envoy asks for by name, and gets again when a file changes.
//!
//! `file-cert:CERTIFICATE~KEY` is a certificate and its key, `file-root:FILE` are authorities, of which `system` are the operating system's.
//! What is no PEM is not handed on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, TlsCertificate, secret::Type,
};
use corten_rt::Drain;
use corten_xds::server::Shared;
use tokio::fs::OpenOptions;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use crate::secrets;

/// Files say nothing when they change: they are looked at this often.
const LOOK: Duration = Duration::from_secs(5);
/// A file is read this far.
const BYTES_MAX: usize = 1 << 20;
/// The operating system's authorities.
const SYSTEM: &str = "system";

/// Which files are asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    names: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Wanted {
    /// Remembers names; those that are no files are passed over.
    pub(crate) fn want<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.extend(names.filter(|name| File::parse(name).is_some()).map(str::to_owned));
        if known.len() > before {
            self.more.notify_one();
        }
    }

    fn names(&self) -> Vec<String> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().cloned().collect()
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum File<'a> {
    Own { certificate: &'a str, key: &'a str },
    Authorities(&'a str),
}

impl File<'_> {
    fn parse(name: &str) -> Option<File<'_>> {
        if let Some(path) = name.strip_prefix("file-root:") {
            return Some(File::Authorities(path));
        }
        let (certificate, key) = name.strip_prefix("file-cert:")?.split_once('~')?;
        Some(File::Own { certificate, key })
    }
}

/// Serves what is wanted until drain.
pub(crate) async fn run(wanted: Arc<Wanted>, shared: Arc<Shared>, mut drain: Drain) {
    // What was wrong with each, so that it is said once.
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    loop {
        for name in wanted.names() {
            match read(&name).await {
                Ok(secret) => {
                    wrong.remove(&name);
                    secrets::publish_one(&shared, &name, secret);
                }
                // What was there before stays.
                Err(reason) => {
                    if wrong.get(&name) != Some(&reason) {
                        tracing::warn!("the files that Envoy asks for as {name} cannot be used: {reason}");
                        wrong.insert(name, reason);
                    }
                }
            }
        }
        tokio::select! {
            biased;
            () = drain.wait() => return,
            () = wanted.more.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn read(name: &str) -> Result<Type, String> {
    match File::parse(name).ok_or("it names no file")? {
        File::Authorities(SYSTEM) => {
            let (_, text) = corten_identity::system_roots().map_err(|error| error.to_string())?;
            Ok(authorities(text))
        }
        File::Authorities(path) => Ok(authorities(pem(path, "CERTIFICATE").await?)),
        File::Own { certificate, key } => Ok(Type::TlsCertificate(TlsCertificate {
            certificate_chain: secrets::inline(pem(certificate, "CERTIFICATE").await?),
            private_key: secrets::inline(pem(key, "PRIVATE KEY").await?),
            ..TlsCertificate::default()
        })),
    }
}

fn authorities(text: Vec<u8>) -> Type {
    Type::ValidationContext(CertificateValidationContext {
        trusted_ca: secrets::inline(text),
        ..CertificateValidationContext::default()
    })
}

/// A regular file's content, and no more of it than one byte too much: paths come from the mesh's objects, so a device or a pipe may be named.
async fn regular(path: &str) -> std::io::Result<Vec<u8>> {
    // A pipe without a writer is waited for otherwise.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("this is no regular file"));
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut text).await?;
    Ok(text)
}

/// A file with something of that kind in it.
async fn pem(path: &str, kind: &str) -> Result<Vec<u8>, String> {
    let text = regular(path).await.map_err(|error| format!("{path}: {error}"))?;
    let end = format!("{kind}-----");
    let is = text.starts_with(b"-----BEGIN ") || text.windows(12).any(|part| part == b"\n-----BEGIN ");
    if text.len() > BYTES_MAX || !is || !text.windows(end.len()).any(|part| part == end.as_bytes()) {
        return Err(format!("{path} is no PEM with a {}", kind.to_lowercase()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use corten_envoy::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;

    use super::*;

    #[test]
    fn names_of_files_are_told_from_others() {
        let own = File::Own {
            certificate: "/c.pem",
            key: "/k.pem",
        };
        assert_eq!(File::parse("file-cert:/c.pem~/k.pem"), Some(own));
        assert_eq!(File::parse("file-root:/ca.pem"), Some(File::Authorities("/ca.pem")));
        assert_eq!(File::parse("default"), None);
        let wanted = Wanted::default();
        wanted.want(["default", "file-root:a", "file-root:a"].into_iter());
        assert_eq!(wanted.names(), ["file-root:a"]);
    }

    #[tokio::test]
    async fn only_what_is_pem_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let certificate = write("c", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
        let key = write(
            "k",
            "# mine\n-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
        );
        let token = write("t", "secret CERTIFICATE-----");
        let Ok(Type::TlsCertificate(TlsCertificate { private_key, .. })) =
            read(&format!("file-cert:{certificate}~{key}")).await
        else {
            panic!("it is a certificate");
        };
        assert!(private_key.is_some());
        assert!(read(&format!("file-root:{certificate}")).await.is_ok());
        let pipe = folder.path().join("p");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let pipe = pipe.display().to_string();
        for wrong in [&token, &key, "/nothing", "/dev/zero", &pipe] {
            assert!(read(&format!("file-root:{wrong}")).await.is_err(), "{wrong}");
        }
    }
}
