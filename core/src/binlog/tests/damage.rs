//! Damaged input is an error or another value, never a panic, an endless loop or a flood.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Nothing in the samples decodes to more than this, and damage must not change that.
const LITERALS_MAX: usize = 1 << 22;

/// Decodes an event whose checksum was right, down to the last value.
fn exhaust(decoder: &mut Decoder, header: Header, body: Bytes) {
    let Ok(event) = decoder.event(&Frame { header, body }) else {
        return;
    };
    if let Event::Rows(event) = event {
        let hint = ColumnHint::default();
        let mut out = Vec::new();
        for change in event.rows().map_while(Result::ok) {
            for image in [change.before, change.after].iter().flatten() {
                for (index, column) in event.table.columns.iter().enumerate() {
                    if let Some(raw) = image.column(index) {
                        let _ = write_condition(&mut out, "`c`", column, &hint, raw);
                        write_key(&mut out, column, &hint, raw, Some(3));
                    }
                }
            }
            assert!(out.len() < LITERALS_MAX);
        }
    }
}

/// Frames of all samples, those inside of payloads too.
fn frames(sample: &Sample) -> Vec<Frame> {
    let mut decoder = Decoder::new(sample.flavor);
    let mut frames = Vec::new();
    for raw in sample.events() {
        let frame = decoder.frame(raw).unwrap();
        if let Event::Payload {
            uncompressed_size,
            body,
            ..
        } = decoder.event(&frame).unwrap()
        {
            let inner = split(decompress(&body, uncompressed_size));
            frames.extend(inner.iter().map(|raw| Frame::inside_payload(raw).unwrap()));
        }
        frames.push(frame);
    }
    frames
}

#[test]
fn events_may_end_anywhere() {
    for sample in &SAMPLES {
        let mut decoder = Decoder::new(sample.flavor);
        for frame in frames(sample) {
            for len in 0..frame.body.len() {
                let cut = frame.body.slice(..len);
                exhaust(&mut decoder, frame.header, cut);
            }
            decoder.event(&frame).unwrap();
        }
    }
}

#[test]
fn every_byte_may_be_another() {
    for sample in &SAMPLES {
        let mut decoder = Decoder::new(sample.flavor);
        for frame in frames(sample) {
            for at in 0..frame.body.len() {
                for change in [1, 0x80, 0xff] {
                    let mut body = frame.body.to_vec();
                    body[at] ^= change;
                    exhaust(&mut decoder, frame.header, body.into());
                }
            }
            decoder.event(&frame).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        sample in 0..SAMPLES.len(),
        nth: prop::sample::Index,
        kind: Option<u8>,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let sample = &SAMPLES[sample];
        let frames = frames(sample);
        let mut decoder = Decoder::new(sample.flavor);
        let nth = nth.index(frames.len());
        for frame in &frames[..nth] {
            decoder.event(frame).unwrap();
        }
        let mut header = frames[nth].header;
        header.event_type = kind.unwrap_or(header.event_type);
        let mut body = frames[nth].body.to_vec();
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        exhaust(&mut decoder, header, body.into());
    }

    #[test]
    fn any_value_of_any_type_is_survived(
        code: u8,
        meta: u16,
        raw in prop::collection::vec(any::<u8>(), 0..40),
        charset in prop::option::of(0u16..3400),
    ) {
        let Ok(kind) = ColumnKind::resolve(code, meta) else {
            return Ok(());
        };
        let mut column = Column::new(kind);
        column.collation = charset;
        for dialect in [Dialect::MySql, Dialect::MariaDb, Dialect::TiDb] {
            let hint = ColumnHint { dialect, ..ColumnHint::default() };
            let mut out = Vec::new();
            let _ = write_literal(&mut out, &column, &hint, &raw);
            write_key(&mut out, &column, &hint, &raw, None);
            prop_assert!(out.len() < 10_000 + 1024 * 2);
        }
    }
}
