//! API keys: 128 random bits in the 8-4-4-4-12 hexadecimal form, which twccli insists on. Only their SHA-256 is
//! kept: a key is random, not chosen, so nothing slower is needed against guessing.

use rand::RngExt;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use uuid::Uuid;

/// Makes a key.
pub fn generate() -> String {
    // Formatted like a UUID but not one: all 128 bits are random.
    let bytes: [u8; 16] = rand::rng().random();
    Uuid::from_bytes(bytes).to_string()
}

/// The SHA-256 of a text, in hexadecimal: what the store keeps of a key.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_form_and_differ() {
        let key = generate();
        let lengths: Vec<usize> = key.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(key.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
        assert_ne!(key, generate());
    }

    #[test]
    fn the_digest_is_sha256_in_hexadecimal() {
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
