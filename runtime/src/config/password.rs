//! Passwords that `dmctl encrypt` has encrypted.

use std::path::Path;

use aes::Aes256;
use aes::cipher::KeyIvInit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfb_mode::Decryptor;
use dm_core::error::Result;

use super::{invalid, read_file};

/// Length of a key.
const KEY_LEN: usize = 32;

/// Length of the initialisation vector, which comes first.
const IV_LEN: usize = 16;

/// Stands between the initialisation vector and the encrypted bytes.
const SEPARATOR: u8 = b'@';

/// The password behind `text`: base64 of an initialisation vector, `@` and the password in
/// AES-256-CFB. What is not that, or is given without a key, is a plain password.
///
/// The format has no checksum, so a wrong key is not noticed unless it gives invalid UTF-8.
pub fn decrypt(text: &str, key: Option<&[u8]>) -> String {
    key.and_then(|key| try_decrypt(text, key))
        .unwrap_or_else(|| text.to_owned())
}

fn try_decrypt(text: &str, key: &[u8]) -> Option<String> {
    let bytes = STANDARD.decode(text).ok()?;
    let (iv, rest) = bytes.split_at_checked(IV_LEN)?;
    let (separator, encrypted) = rest.split_first()?;
    if *separator != SEPARATOR {
        return None;
    }
    let mut password = encrypted.to_vec();
    Decryptor::<Aes256>::new_from_slices(key, iv)
        .ok()?
        .decrypt(&mut password);
    String::from_utf8(password).ok()
}

/// Reads a key from a file of 64 hexadecimal digits.
///
/// # Errors
/// 20018 if the file cannot be read, 20900 if it holds something else.
pub(super) fn read_key(path: &Path) -> Result<Vec<u8>> {
    let text = read_file(path)?;
    let digits: Option<Vec<u8>> = text
        .trim()
        .chars()
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    match digits {
        Some(digits) if digits.len() == 2 * KEY_LEN => Ok(digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()),
        _ => {
            let file = path.display().to_string();
            Err(invalid(
                &file,
                "secret-key-path",
                "must name a file of 64 hexadecimal digits",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn encrypt(password: &str) -> String {
        let iv = [9; IV_LEN];
        let mut bytes = [&iv[..], &[SEPARATOR], password.as_bytes()].concat();
        let encryptor = cfb_mode::Encryptor::<Aes256>::new_from_slices(&KEY, &iv).expect("lengths");
        encryptor.encrypt(&mut bytes[IV_LEN + 1..]);
        STANDARD.encode(bytes)
    }

    #[test]
    fn encrypted_passwords_are_decrypted() {
        for password in [
            "",
            "secret",
            "a password longer than two blocks of the cipher",
        ] {
            assert_eq!(decrypt(&encrypt(password), Some(&KEY)), password);
        }
    }

    /// The vector of NIST SP 800-38A, F.3.17 (CFB128-AES256), first block.
    #[test]
    fn the_cipher_is_the_standard_one() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            let digits = digits.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
            digits
                .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
                .collect()
        };
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv = hex("000102030405060708090a0b0c0d0e0f");
        let mut bytes = hex("dc7e84bfda79164b7ecd8486985d3860");
        Decryptor::<Aes256>::new_from_slices(&key, &iv)
            .expect("lengths")
            .decrypt(&mut bytes);
        assert_eq!(bytes, hex("6bc1bee22e409f96e93d7e117393172a"));
    }

    #[test]
    fn everything_else_is_plain() {
        let encrypted = encrypt("secret");
        let no_separator = STANDARD.encode([1; 20]);
        for text in [
            "",
            "secret",
            "c2VjcmV0",
            &no_separator,
            "MTIzNDU2Nzg5MDEyMzQ1Ng==",
        ] {
            assert_eq!(decrypt(text, Some(&KEY)), text);
        }
        assert_eq!(decrypt(&encrypted, None), encrypted);
        assert_eq!(decrypt(&encrypted, Some(&[7; 16])), encrypted);
    }
}
