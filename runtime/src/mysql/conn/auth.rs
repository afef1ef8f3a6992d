//! The handshake: who the server is, who we are, and the proof of it.

use bytes::Bytes;
use mysql_common::{
    constants::CapabilityFlags,
    crypto,
    scramble::{create_response_for_ed25519, scramble_native, scramble_sha256},
};

use super::{
    Fault,
    packet::{Fields, Wire},
};

/// `utf8mb4_general_ci`: known to every server of either kind.
const CHARSET: u8 = 45;
/// Largest packet that we announce to accept, 1 GiB, the largest that servers send.
const PACKET_MAX: u32 = 1 << 30;
/// Length of the challenge that every method uses.
const NONCE: usize = 20;
/// Bytes that OAEP padding with SHA-1 takes of an RSA block.
const OAEP: usize = 42;

const OK: u8 = 0x00;
const MORE: u8 = 0x01;
const SWITCH: u8 = 0xfe;

const NATIVE: &[u8] = b"mysql_native_password";
const SHA2: &[u8] = b"caching_sha2_password";
const ED25519: &[u8] = b"client_ed25519";

/// What the server says first.
pub(super) struct Greeting {
    pub(super) version: String,
    pub(super) capabilities: CapabilityFlags,
    nonce: Vec<u8>,
    plugin: Vec<u8>,
}

impl Greeting {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields(payload);
        if fields.u8()? != 10 {
            return Err(Fault::Protocol("not a MySQL server"));
        }
        let version = String::from_utf8_lossy(fields.until_zero()).into_owned();
        let _thread = fields.u32()?;
        let mut nonce = fields.bytes(8)?.to_vec();
        let _filler = fields.u8()?;
        let low = fields.u16()?;
        let _charset = fields.u8()?;
        let _status = fields.u16()?;
        let high = fields.u16()?;
        let nonce_len = fields.u8()?;
        let _reserved = fields.bytes(10)?;
        let bits = u32::from(high) << 16 | u32::from(low);
        let capabilities = CapabilityFlags::from_bits_retain(bits);
        let needed = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        if !capabilities.contains(needed) {
            return Err(Fault::Protocol("the server is older than MySQL 5.5"));
        }
        nonce.extend_from_slice(fields.bytes(usize::from(nonce_len.max(21) - 8))?);
        nonce.truncate(NONCE);
        Ok(Self {
            version,
            capabilities,
            nonce,
            plugin: fields.until_zero().to_vec(),
        })
    }
}

/// Who we are.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    /// Whether nobody can listen: TLS or a socket of this machine.
    pub(super) private: bool,
    /// Whether the connection is encrypted by TLS.
    pub(super) tls: bool,
}

impl Login<'_> {
    fn capabilities(&self, greeting: &Greeting) -> CapabilityFlags {
        let mut flags = CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_LONG_FLAG
            | CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH
            | CapabilityFlags::CLIENT_CONNECT_ATTRS;
        if self.tls {
            flags |= CapabilityFlags::CLIENT_SSL;
        }
        flags & greeting.capabilities
    }

    /// What asks the server to continue in TLS; also the start of the real answer.
    pub(super) fn ssl_request(&self, greeting: &Greeting) -> Vec<u8> {
        let mut packet = Vec::with_capacity(128);
        packet.extend_from_slice(&self.capabilities(greeting).bits().to_le_bytes());
        packet.extend_from_slice(&PACKET_MAX.to_le_bytes());
        packet.push(CHARSET);
        packet.extend_from_slice(&[0; 23]);
        packet
    }

    fn response(&self, greeting: &Greeting, plugin: &[u8], proof: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut packet = self.ssl_request(greeting);
        packet.extend_from_slice(self.user.as_bytes());
        packet.push(0);
        // Without the flag for length-encoded data the length is one byte.
        packet.push(u8::try_from(proof.len()).map_err(|_| Fault::Protocol("proof too long"))?);
        packet.extend_from_slice(proof);
        packet.extend_from_slice(plugin);
        packet.push(0);
        if greeting
            .capabilities
            .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
        {
            let mut attributes = Vec::new();
            for text in [
                "_client_role",
                "binary_log_listener",
                "program_name",
                "dm-worker",
            ] {
                // All of them shorter than 251 bytes: the length is one byte.
                attributes.push(text.len() as u8);
                attributes.extend_from_slice(text.as_bytes());
            }
            packet.push(attributes.len() as u8);
            packet.extend_from_slice(&attributes);
        }
        Ok(packet)
    }

    /// The proof that is sent without being asked for more; `None` for a method that we don't know.
    fn proof(&self, plugin: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
        let password = self.password.as_bytes();
        match plugin {
            NATIVE => Some(scramble_native(nonce, password).map_or_else(Vec::new, Vec::from)),
            SHA2 => Some(scramble_sha256(nonce, password).map_or_else(Vec::new, Vec::from)),
            ED25519 => Some(create_response_for_ed25519(password, nonce).to_vec()),
            _ => None,
        }
    }

    /// Answers the greeting and whatever the server wants to know then.
    pub(super) async fn run(&self, greeting: Greeting, wire: &mut Wire) -> Result<(), Fault> {
        let mut plugin = greeting.plugin.clone();
        let mut nonce = greeting.nonce.clone();
        // The server's favourite need not be the user's method: it asks for another one then.
        let proof = self.proof(&plugin, &nonce);
        if proof.is_none() {
            plugin = SHA2.to_vec();
        }
        let response = self.response(&greeting, &plugin, &proof.unwrap_or_default())?;
        wire.write(&response).await?;
        loop {
            let payload = wire.read().await?;
            match payload.first() {
                Some(&OK) => return Ok(()),
                Some(&MORE) => self.more(&plugin, &nonce, &payload[1..], wire).await?,
                Some(&SWITCH) => {
                    let mut fields = Fields(&payload[1..]);
                    plugin = fields.until_zero().to_vec();
                    nonce = fields.0.to_vec();
                    nonce.truncate(if plugin == ED25519 { 32 } else { NONCE });
                    let Some(proof) = self.proof(&plugin, &nonce) else {
                        let name = String::from_utf8_lossy(&plugin).into_owned();
                        return Err(Fault::Method(name));
                    };
                    wire.write(&proof).await?;
                }
                _ => return Err(Fault::of(&payload)),
            }
        }
    }

    /// The second step of `caching_sha2_password`.
    async fn more(
        &self,
        plugin: &[u8],
        nonce: &[u8],
        data: &[u8],
        wire: &mut Wire,
    ) -> Result<(), Fault> {
        const FAST: &[u8] = &[3];
        const FULL: &[u8] = &[4];
        const KEY_REQUEST: &[u8] = &[2];
        match data {
            FAST if plugin == SHA2 => Ok(()),
            FULL if plugin == SHA2 => {
                let mut secret = self.password.as_bytes().to_vec();
                secret.push(0);
                if !self.private {
                    wire.write(KEY_REQUEST).await?;
                    let answer = wire.read().await?;
                    secret = seal(secret, nonce, &answer)?;
                }
                wire.write(&secret).await
            }
            _ => Err(Fault::Protocol("unexpected step of authentication")),
        }
    }
}

/// Encrypts the password for the owner of the key that the server sent.
fn seal(mut secret: Vec<u8>, nonce: &[u8], answer: &Bytes) -> Result<Vec<u8>, Fault> {
    let Some((&MORE, pem)) = answer.split_first() else {
        return Err(Fault::of(answer));
    };
    let len = super::der::rsa_modulus_len(pem).ok_or(Fault::Protocol("bad RSA public key"))?;
    if nonce.is_empty() || len < secret.len() + OAEP {
        return Err(Fault::Protocol(
            "the RSA key is too short for this password",
        ));
    }
    for (byte, mask) in secret.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(crypto::encrypt(&secret, pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from servers that had just started.
    const MYSQL: &[u8] = b"\n9.7.4-2\x00\n\x00\x00\x001\"\x0b\"yDy@\x00\xff\xff\xff\x02\x00\xff\
        \xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00[\x07E\x1aks:\t`:Ok\x00\
        caching_sha2_password\x00";
    const MARIADB: &[u8] = b"\n5.5.5-10.11.18-MariaDB-0+deb12u1-log\x00\x06\x00\x00\x00dbB_:Ay\\\
        \x00\xfe\xf7\x08\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00D{`NGW`\\,e:2\
        \x00mysql_native_password\x00";

    #[test]
    fn greetings_are_read() {
        let mysql = Greeting::parse(MYSQL).unwrap();
        assert_eq!(mysql.version, "9.7.4-2");
        assert_eq!(mysql.plugin, SHA2);
        assert_eq!(mysql.nonce, b"1\"\x0b\"yDy@[\x07E\x1aks:\t`:Ok");
        assert!(mysql.capabilities.contains(CapabilityFlags::CLIENT_SSL));
        let mariadb = Greeting::parse(MARIADB).unwrap();
        assert!(mariadb.version.contains("MariaDB"));
        assert_eq!(mariadb.plugin, NATIVE);
        assert_eq!(mariadb.nonce.len(), NONCE);
        assert!(!mariadb.capabilities.contains(CapabilityFlags::CLIENT_SSL));
    }

    #[test]
    fn a_damaged_greeting_is_an_error_or_another_greeting() {
        for greeting in [MYSQL, MARIADB] {
            let plugin = greeting.len() - 22;
            for cut in 0..plugin {
                assert!(Greeting::parse(&greeting[..cut]).is_err(), "{cut}");
            }
            for at in 0..greeting.len() {
                for byte in [0, 1, 0x7f, 0x80, 0x87, 0xff] {
                    let mut greeting = greeting.to_vec();
                    greeting[at] = byte;
                    if let Ok(greeting) = Greeting::parse(&greeting) {
                        assert!(greeting.nonce.len() <= NONCE);
                    }
                }
            }
        }
    }

    #[test]
    fn an_answer_has_the_form_of_the_protocol() {
        let greeting = Greeting::parse(MYSQL).unwrap();
        let login = Login {
            user: "u",
            password: "p",
            private: false,
            tls: false,
        };
        let proof = login.proof(SHA2, &greeting.nonce).unwrap();
        assert_eq!(proof.len(), 32);
        let answer = login.response(&greeting, SHA2, &proof).unwrap();
        assert_eq!(answer[4..8], PACKET_MAX.to_le_bytes());
        assert_eq!(answer[32..35], [b'u', 0, 32]);
        assert_eq!(answer[35..67], proof);
        assert_eq!(&answer[67..89], b"caching_sha2_password\0");
        assert_eq!(usize::from(answer[89]), answer.len() - 90);
    }

    #[test]
    fn a_password_is_never_sealed_with_a_bad_key() {
        let sealed = seal(
            b"secret\0".to_vec(),
            b"nonce",
            &Bytes::from_static(b"\x01no key"),
        );
        assert!(matches!(sealed, Err(Fault::Protocol("bad RSA public key"))));
        let sealed = seal(
            b"secret\0".to_vec(),
            b"nonce",
            &Bytes::from_static(b"\xff\x15\x04no"),
        );
        assert!(matches!(sealed, Err(Fault::Server { code: 1045, .. })));
    }
}
