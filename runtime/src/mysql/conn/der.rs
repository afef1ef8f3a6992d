//! The little of ASN.1 DER that the two things we look into need: the RSA key that a server hands
//! out for its password exchange, and the common name in its certificate.

use base64::{Engine, engine::general_purpose::STANDARD};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] EXPLICIT`, the version of a certificate.
const CONTEXT_0: u8 = 0xa0;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The next element of `input`, if its tag is `tag`: its content. `input` moves behind it.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // More than four length bytes would be more than anybody sends.
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        let len = digits
            .iter()
            .fold(0, |len: usize, &d| len << 8 | usize::from(d));
        (len, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    (found == tag).then(|| {
        *input = rest;
        content
    })
}

/// Length in bytes of the modulus in a PEM file that holds an RSA public key (PKCS#1 or PKCS#8),
/// `None` if it holds anything else.
///
/// This is what makes it safe to hand a key from the wire to `mysql_common`, which panics on
/// malformed ones.
pub(super) fn rsa_modulus_len(pem: &[u8]) -> Option<usize> {
    let text = str::from_utf8(pem).ok()?;
    let (body, pkcs8) = body(text, "RSA PUBLIC KEY")
        .map(|body| (body, false))
        .or_else(|| body(text, "PUBLIC KEY").map(|body| (body, true)))?;
    let clean = body.split_ascii_whitespace().collect::<String>();
    let der = STANDARD.decode(clean).ok()?;
    let mut key = element(&mut der.as_slice(), SEQUENCE)?;
    if pkcs8 {
        let _algorithm = element(&mut key, SEQUENCE)?;
        let bits = element(&mut key, BIT_STRING)?;
        let (&unused, mut bits) = bits.split_first()?;
        if unused != 0 {
            return None;
        }
        key = element(&mut bits, SEQUENCE)?;
    }
    let modulus = element(&mut key, INTEGER)?;
    let _exponent = element(&mut key, INTEGER)?;
    let zeros = modulus.iter().take_while(|&&b| b == 0).count();
    Some(modulus.len() - zeros)
}

fn body<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, rest) = rest.split_once('-')?;
    rest.starts_with(&format!("----END {label}-----"))
        .then_some(body)
}

/// The common name (CN) of a certificate's subject.
pub(crate) fn common_name(mut certificate: &[u8]) -> Option<String> {
    let mut certificate = element(&mut certificate, SEQUENCE)?;
    let mut tbs = element(&mut certificate, SEQUENCE)?;
    // Absent in version 1.
    let _version = element(&mut tbs, CONTEXT_0);
    let _serial = element(&mut tbs, INTEGER)?;
    let _signature = element(&mut tbs, SEQUENCE)?;
    let _issuer = element(&mut tbs, SEQUENCE)?;
    let _validity = element(&mut tbs, SEQUENCE)?;
    let mut subject = element(&mut tbs, SEQUENCE)?;
    while let Some(mut names) = element(&mut subject, SET) {
        while let Some(mut name) = element(&mut names, SEQUENCE) {
            if element(&mut name, OID) != Some(COMMON_NAME) {
                continue;
            }
            // UTF8String, PrintableString, IA5String, T61String: all of them bytes.
            let tag = *name.first()?;
            let value = element(&mut name, tag)?;
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of 2,048 bits in the form that servers send.
    const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE\n\
        bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR\n\
        R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX\n\
        VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya\n\
        C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx\n\
        4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1\n\
        YQIDAQAB\n-----END PUBLIC KEY-----\n";

    #[test]
    fn measures_keys_and_refuses_all_that_would_panic() {
        assert_eq!(rsa_modulus_len(PUBLIC_KEY.as_bytes()), Some(256));
        for cut in 0..PUBLIC_KEY.len() - 1 {
            assert_eq!(
                rsa_modulus_len(&PUBLIC_KEY.as_bytes()[..cut]),
                None,
                "{cut}"
            );
        }
        for at in 0..PUBLIC_KEY.len() {
            for byte in [b'A', b'/', b'=', b'-', 0xff] {
                let mut pem = PUBLIC_KEY.as_bytes().to_vec();
                pem[at] = byte;
                if rsa_modulus_len(&pem).is_some_and(|len| len > 64) {
                    mysql_common::crypto::encrypt(b"secret", &pem);
                }
            }
        }
    }

    #[test]
    fn names_nobody_in_noise() {
        assert_eq!(common_name(b""), None);
        assert_eq!(common_name(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(common_name(&[SEQUENCE, 2, SEQUENCE, 0]), None);
    }
}
