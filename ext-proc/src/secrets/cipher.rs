use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use crypto_secretbox::XSalsa20Poly1305;
use hkdf::Hkdf;
use rand::RngCore;
use sha2::{Digest, Sha256};

use crate::config::Secret;

const V2: &str = "v2:gcm:";
const V3: &str = "v3:gcm:";
const V3_INFO: &[u8] = b"litellm-at-rest-v3";
const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
const TAG: usize = 16;
/// Longest encrypted value that is taken, bytes: service account files are some kilobytes.
const MAX: usize = 1 << 20;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Why a value stays unreadable. Says nothing of the value or the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    #[error("it was encrypted with another salt key, or is damaged")]
    WrongKey,
    #[error("it is not in a form that LiteLLM or Attaché writes")]
    NotEncrypted,
    #[error("it is no text")]
    NotText,
}

/// The keys made of one salt key.
#[derive(Clone)]
pub struct SaltKey(Arc<Ciphers>);

struct Ciphers {
    v2: Aes256Gcm,
    v3: Aes256Gcm,
    nacl: XSalsa20Poly1305,
}

impl std::fmt::Debug for SaltKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltKey(***)")
    }
}

impl SaltKey {
    /// Derives the keys.
    #[must_use]
    pub fn new(salt: &Secret) -> Self {
        let salt = salt.expose().as_bytes();
        let plain: [u8; 32] = Sha256::digest(salt).into();
        let mut expanded = [0; 32];
        Hkdf::<Sha256>::new(None, salt)
            .expand(V3_INFO, &mut expanded)
            .expect("32 bytes are within what HKDF can give");
        Self(Arc::new(Ciphers {
            v2: Aes256Gcm::new(&plain.into()),
            v3: Aes256Gcm::new(&expanded.into()),
            nacl: XSalsa20Poly1305::new(&plain.into()),
        }))
    }

    /// Encrypts into `v2:gcm:`, which LiteLLM reads as well.
    #[must_use]
    pub fn encrypt(&self, plain: &str) -> String {
        let mut nonce = [0_u8; GCM_NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = self.0.v2.encrypt(&nonce.into(), plain.as_bytes());
        let sealed = sealed.expect("AES-GCM refuses nothing shorter than 64 GB");
        format!("{V2}{}", base64::prelude::BASE64_URL_SAFE.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Decrypts a value in any of LiteLLM's forms.
    ///
    /// # Errors
    /// [`DecryptError::NotEncrypted`] when it cannot be one by its form, else [`DecryptError::WrongKey`].
    pub fn decrypt(&self, value: &str) -> Result<Secret, DecryptError> {
        let plain = if let Some(rest) = value.strip_prefix(V2) {
            gcm(&self.0.v2, rest)
        } else if let Some(rest) = value.strip_prefix(V3) {
            gcm(&self.0.v3, rest)
        } else {
            let (nonce, sealed) = legacy(value).ok_or(DecryptError::NotEncrypted)?;
            self.0.nacl.decrypt(&nonce.into(), sealed.as_slice()).map_err(|_| DecryptError::WrongKey)
        }?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| DecryptError::NotText)
    }
}

fn gcm(cipher: &Aes256Gcm, text: &str) -> Result<Vec<u8>, DecryptError> {
    let raw = bytes(text).ok_or(DecryptError::WrongKey)?;
    let (nonce, sealed) = raw.split_first_chunk::<GCM_NONCE>().ok_or(DecryptError::WrongKey)?;
    cipher.decrypt(&(*nonce).into(), sealed).map_err(|_| DecryptError::WrongKey)
}

/// Nonce and sealed text of the old form, if it can be one.
fn legacy(value: &str) -> Option<([u8; BOX_NONCE], Vec<u8>)> {
    let raw = bytes(value)?;
    let (nonce, sealed) = raw.split_first_chunk::<BOX_NONCE>()?;
    (sealed.len() >= TAG).then(|| (*nonce, sealed.to_vec()))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX {
        return None;
    }
    BASE64_URL.decode(text).or_else(|_| BASE64.decode(text)).ok()
}

/// Could this be an encrypted value? Certain for the marked forms; a long plain key may look like the old one.
#[must_use]
pub fn looks_encrypted(value: &str) -> bool {
    // The old form always carries its padding.
    value.starts_with(V2)
        || value.starts_with(V3)
        || (value.len().is_multiple_of(4) && legacy(value).is_some())
}
