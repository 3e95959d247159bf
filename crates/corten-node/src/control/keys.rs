//! Certificates and their keys on disk, so that a proxy that starts while the authority is away can speak for its pods.
//!
//! In a file that only its owner can read, in a folder that only its owner can enter. Whoever can read it can be those pods until the
//! certificates expire; so unless `CORTEN_KEEP_KEYS` says otherwise, nothing is written where it would outlive the machine: only to a file
//! system of memory, as `/run` is one.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use corten_identity::{Certificate, Identities};
use corten_rt::Drain;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use tokio::sync::Notify;

/// What the file begins with: the name and version of its form.
const MAGIC: &[u8; 8] = b"cortenk1";
/// Changes gather for so long before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// The file.
pub struct Keys {
    path: PathBuf,
    identities: Arc<Identities>,
    changed: Notify,
}

/// Whether keys are written to a folder: as the setting has it, or if the folder is in memory.
pub fn are_kept(folder: &Path, setting: Option<bool>) -> bool {
    /// Of `tmpfs` and `ramfs`, in the kernel's `magic.h`.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    setting.unwrap_or_else(|| {
        let in_memory = rustix::fs::statfs(folder).is_ok_and(|found| IN_MEMORY.contains(&found.f_type));
        if !in_memory {
            tracing::info!(
                folder = %folder.display(),
                "keys are not kept: the folder of CORTEN_STATE_DIR is not in memory; CORTEN_KEEP_KEYS=true keeps them anyway"
            );
        }
        in_memory
    })
}

impl Keys {
    /// In a folder that exists.
    pub fn new(folder: &Path, identities: Arc<Identities>) -> Arc<Keys> {
        let keys = Arc::new(Keys {
            path: folder.join("certificates"),
            identities: identities.clone(),
            changed: Notify::new(),
        });
        let weak = Arc::downgrade(&keys);
        identities.on_change(move || {
            if let Some(keys) = weak.upgrade() {
                keys.changed.notify_one();
            }
        });
        keys
    }

    /// Takes what was kept and is good still.
    pub fn restore(&self) {
        let read = match std::fs::read(&self.path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the certificates that were kept cannot be read");
                return;
            }
        };
        let Some(kept) = decode(read.into()) else {
            tracing::warn!(path = %self.path.display(), "the certificates that were kept are damaged and not used");
            return;
        };
        for (chain, key, roots) in kept {
            let restored = Certificate::new(chain, key, roots).and_then(|kept| self.identities.restore(kept));
            if let Err(error) = restored {
                tracing::warn!(%error, "a certificate that was kept cannot be used");
            }
        }
    }

    /// Writes changes until told to stop.
    pub async fn run(self: Arc<Self>, mut drain: Drain) {
        loop {
            tokio::select! {
                () = drain.wait() => return,
                () = self.changed.notified() => {}
            }
            tokio::select! {
                () = drain.wait() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
            let (path, bytes) = (self.path.clone(), encode(&self.identities));
            let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(path = %self.path.display(), %error, "the certificates cannot be kept on disk");
            }
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    std::fs::rename(fresh, path)
}

type Kept = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    Vec<CertificateDer<'static>>,
);

fn encode(identities: &Identities) -> Vec<u8> {
    fn part(out: &mut Vec<u8>, bytes: &[u8]) {
        out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        out.put_slice(bytes);
    }
    fn list(out: &mut Vec<u8>, certificates: &[CertificateDer<'static>]) {
        out.put_u32(u32::try_from(certificates.len()).unwrap_or(u32::MAX));
        certificates.iter().for_each(|certificate| part(out, certificate));
    }
    let bundles = identities.bundles();
    let mut out = Vec::new();
    out.put_slice(MAGIC);
    out.put_u32(u32::try_from(bundles.len()).unwrap_or(u32::MAX));
    for bundle in bundles {
        let certificate = bundle.certificate();
        list(&mut out, &certificate.chain);
        out.put_u8(match &certificate.key {
            PrivateKeyDer::Pkcs1(_) => 1,
            PrivateKeyDer::Sec1(_) => 2,
            _ => 8,
        });
        part(&mut out, certificate.key.secret_der());
        list(&mut out, &certificate.roots);
    }
    out
}

fn decode(mut bytes: Bytes) -> Option<Vec<Kept>> {
    fn part(bytes: &mut Bytes) -> Option<Vec<u8>> {
        let length = bytes.try_get_u32().ok()? as usize;
        (bytes.len() >= length).then(|| bytes.split_to(length).to_vec())
    }
    fn list(bytes: &mut Bytes) -> Option<Vec<CertificateDer<'static>>> {
        let count = bytes.try_get_u32().ok()?;
        (0..count).map(|_| part(bytes).map(CertificateDer::from)).collect()
    }
    if bytes.len() < MAGIC.len() || bytes.split_to(MAGIC.len()) != MAGIC.as_slice() {
        return None;
    }
    let count = bytes.try_get_u32().ok()?;
    let mut kept = Vec::new();
    for _ in 0..count {
        let chain = list(&mut bytes)?;
        let kind = bytes.try_get_u8().ok()?;
        let secret = part(&mut bytes)?;
        let key = match kind {
            1 => PrivatePkcs1KeyDer::from(secret).into(),
            2 => PrivateSec1KeyDer::from(secret).into(),
            8 => PrivatePkcs8KeyDer::from(secret).into(),
            _ => return None,
        };
        kept.push((chain, key, list(&mut bytes)?));
    }
    bytes.is_empty().then_some(kept)
}
