//! Packets: what the client/server protocol puts around everything it sends.
//!
//! A packet is three bytes of length, one sequence number and the payload. A payload of 16 MiB - 1
//! or more goes on in the next packet, up to one that is shorter.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::Fault;

/// A payload of this length has a continuation.
const PAYLOAD_MAX: usize = 0xff_ffff;
/// The longest message: 1 GiB is the most that a server takes or writes, and a bit is around it.
const MESSAGE_MAX: usize = (1 << 30) + 1024;
/// Length of a packet's header.
const HEADER: usize = 4;
/// How much is asked of the socket at once. Events are slices of such chunks, so that one small
/// event that is kept for long keeps this much memory.
const CHUNK: usize = 64 * 1024;
/// Below this much room a new chunk is begun.
const ROOM_MIN: usize = 4 * 1024;

/// Anything that carries bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream cut into packets.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    buf: BytesMut,
    /// What is there of a payload that spans packets.
    large: BytesMut,
    /// Sequence number of the next packet, whoever sends it.
    sequence: u8,
    /// How long the other side may be silent while something is expected of it.
    pub(super) silence_max: Duration,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, silence_max: Duration) -> Self {
        Self {
            stream,
            buf: BytesMut::with_capacity(CHUNK),
            large: BytesMut::new(),
            sequence: 0,
            silence_max,
        }
    }

    /// Takes the stream out, to put TLS around it.
    ///
    /// # Errors
    /// When there are bytes that came before the TLS handshake: somebody put them there.
    pub(super) fn into_stream(self) -> Result<Box<dyn Stream>, Fault> {
        if self.buf.is_empty() {
            Ok(self.stream)
        } else {
            Err(Fault::Protocol("data before the TLS handshake"))
        }
    }

    /// Begins a new command.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
    }

    /// Goes on counting where another wire over the same stream stopped.
    pub(super) fn resume(&mut self, sequence: u8) {
        self.sequence = sequence;
    }

    /// The next payload. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<Bytes, Fault> {
        loop {
            if let Some(payload) = self.take()? {
                return Ok(payload);
            }
            if self.buf.capacity() - self.buf.len() < ROOM_MIN {
                self.buf.reserve(CHUNK);
            }
            let read = timeout(self.silence_max, self.stream.read_buf(&mut self.buf));
            let n = read
                .await
                .map_err(|_| Fault::Silence(self.silence_max))?
                .map_err(Fault::Io)?;
            if n == 0 {
                return Err(Fault::Closed);
            }
        }
    }

    /// A payload that is there completely.
    fn take(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Some(&[a, b, c, sequence]) = self.buf.first_chunk() else {
                return Ok(None);
            };
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.large.len() + len > MESSAGE_MAX {
                return Err(Fault::Protocol("a message of more than 1 GiB"));
            }
            let missing = (HEADER + len).saturating_sub(self.buf.len());
            if missing > 0 {
                self.buf.reserve(missing);
                return Ok(None);
            }
            if sequence != self.sequence {
                return Err(Fault::Protocol("packets out of order"));
            }
            self.sequence = sequence.wrapping_add(1);
            self.buf.advance(HEADER);
            let part = self.buf.split_to(len);
            if len < PAYLOAD_MAX && self.large.is_empty() {
                return Ok(Some(part.freeze()));
            }
            self.large.extend_from_slice(&part);
            if len < PAYLOAD_MAX {
                return Ok(Some(std::mem::take(&mut self.large).freeze()));
            }
        }
    }

    /// Sends a payload that fits into one packet.
    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|&len| (len as usize) < PAYLOAD_MAX)
            .ok_or(Fault::Protocol("command too long"))?;
        let mut packet = Vec::with_capacity(HEADER + payload.len());
        packet.extend_from_slice(&len.to_le_bytes()[..3]);
        packet.push(self.sequence);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        let write = async {
            self.stream.write_all(&packet).await?;
            self.stream.flush().await
        };
        timeout(self.silence_max, write)
            .await
            .map_err(|_| Fault::Silence(self.silence_max))?
            .map_err(Fault::Io)
    }
}

/// Reads fields off a payload; every one may be missing.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Fault::SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Up to the next zero byte, which is skipped, or to the end.
    pub(super) fn until_zero(&mut self) -> &'a [u8] {
        let mut parts = self.0.splitn(2, |&b| b == 0);
        let head = parts.next().unwrap_or_default();
        self.0 = parts.next().unwrap_or_default();
        head
    }

    /// A length-encoded integer, `None` for NULL.
    pub(super) fn lenenc(&mut self) -> Result<Option<u64>, Fault> {
        let width = match self.u8()? {
            first @ ..=0xfa => return Ok(Some(first.into())),
            0xfb => return Ok(None),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xff => return Err(Fault::Protocol("bad length")),
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.bytes(width)?);
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// A length-encoded string, `None` for NULL.
    pub(super) fn string(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        match self.lenenc()? {
            None => Ok(None),
            Some(len) => {
                let len = usize::try_from(len).map_err(|_| Fault::SHORT)?;
                self.bytes(len).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(payload.len()).unwrap().to_le_bytes()[..3].to_vec();
        packet.push(sequence);
        packet.extend_from_slice(payload);
        packet
    }

    async fn read_all(bytes: Vec<u8>, piece: usize) -> Vec<Result<Bytes, Fault>> {
        let (near, mut far) = duplex(1 << 20);
        let mut wire = Wire::new(Box::new(near), Duration::from_secs(5));
        let writer = tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                far.write_all(piece).await.unwrap();
            }
        });
        let mut read = Vec::new();
        loop {
            let payload = wire.read().await;
            let end = payload.is_err();
            read.push(payload);
            if end {
                break;
            }
        }
        writer.abort();
        read
    }

    #[tokio::test]
    async fn payloads_come_whole_however_they_arrive() {
        let mut bytes = packet(0, b"one");
        bytes.extend(packet(1, b""));
        bytes.extend(packet(2, &[7; 100_000]));
        for piece in [1 << 20, 1000, 5] {
            let read = read_all(bytes.clone(), piece).await;
            assert_eq!(read[0].as_ref().unwrap(), &b"one"[..]);
            assert_eq!(read[1].as_ref().unwrap(), &b""[..]);
            assert_eq!(read[2].as_ref().unwrap(), &[7; 100_000][..]);
            assert!(matches!(read[3], Err(Fault::Closed)));
        }
    }

    #[tokio::test]
    async fn long_payloads_are_put_together() {
        for extra in [0, 1, PAYLOAD_MAX, PAYLOAD_MAX + 9] {
            let payload: Vec<u8> = (0..PAYLOAD_MAX + extra).map(|i| (i % 251) as u8).collect();
            let mut bytes = Vec::new();
            let mut sequence = 0;
            for part in payload.chunks(PAYLOAD_MAX) {
                bytes.extend(packet(sequence, part));
                sequence += 1;
            }
            if extra % PAYLOAD_MAX == 0 {
                bytes.extend(packet(sequence, b""));
                sequence += 1;
            }
            bytes.extend(packet(sequence, b"next"));
            let read = read_all(bytes, 1 << 20).await;
            assert!(read[0].as_ref().unwrap() == &payload, "{extra}");
            assert_eq!(read[1].as_ref().unwrap(), &b"next"[..]);
        }
    }

    #[tokio::test]
    async fn a_message_has_an_end() {
        let (near, mut far) = duplex(1 << 10);
        let mut wire = Wire::new(Box::new(near), Duration::from_secs(5));
        // As if so much had come already.
        wire.large = BytesMut::zeroed(MESSAGE_MAX - 9);
        wire.sequence = 7;
        far.write_all(&packet(7, &[1; 10])).await.unwrap();
        assert!(matches!(wire.read().await, Err(Fault::Protocol(_))));
    }

    #[tokio::test]
    async fn a_missing_packet_is_noticed() {
        let mut bytes = packet(0, b"one");
        bytes.extend(packet(2, b"three"));
        assert!(matches!(
            read_all(bytes, 100).await[1],
            Err(Fault::Protocol("packets out of order"))
        ));
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let (near, mut far) = duplex(1 << 20);
        let mut wire = Wire::new(Box::new(near), Duration::from_secs(5));
        let bytes = packet(0, &[9; 50]);
        for byte in bytes {
            let half = timeout(Duration::from_millis(1), wire.read()).await;
            assert!(half.is_err());
            far.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(wire.read().await.unwrap(), &[9; 50][..]);
    }

    #[tokio::test]
    async fn silence_has_a_limit() {
        let (near, _far) = duplex(100);
        let mut wire = Wire::new(Box::new(near), Duration::from_millis(20));
        assert!(matches!(wire.read().await, Err(Fault::Silence(_))));
    }

    #[test]
    fn fields_end_where_the_payload_ends() {
        let mut fields = Fields(&[3, b'a', b'b', b'c', 0xfb, 0xfc, 1, 0, b'x', 0xfe, 1]);
        assert_eq!(fields.string().unwrap(), Some(&b"abc"[..]));
        assert_eq!(fields.string().unwrap(), None);
        assert_eq!(fields.string().unwrap(), Some(&b"x"[..]));
        assert!(fields.string().is_err());
        assert!(
            Fields(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255])
                .string()
                .is_err()
        );
        assert!(Fields(&[]).u8().is_err());
    }
}
