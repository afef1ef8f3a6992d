//! JSON as Go's `encoding/json` writes it, and read as leniently as it reads.
//!
//! Writing: no spaces, fields in declared order, map keys sorted, an absent list as `null`, and
//! `<`, `>`, `&`, U+2028 and U+2029 escaped. Reading: unknown fields are passed over, names match
//! in any letter case, `null` and absent fields leave the zero value, the last of several wins.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::error::{Error, Result, code};

/// A value of the control store in JSON.
pub(super) trait Json: Sized {
    /// Appends the value.
    fn write(&self, out: &mut String);

    /// Reads the value from one that is not `null`.
    ///
    /// # Errors
    /// Whatever makes the text not such a value.
    fn read(text: &str) -> Result<Self, serde_json::Error>;
}

/// Reads a whole stored value.
pub(super) fn parse<T: Json>(value: &[u8]) -> Result<T> {
    // Like the existing readers: what is not UTF-8 inside a string becomes U+FFFD.
    let text = String::from_utf8_lossy(value);
    T::read(&text).map_err(|error| {
        Error::new(
            &code::HA_INVALID_ITEM,
            format!("meets invalid ha item: {text}"),
        )
        .with_cause(error.to_string())
    })
}

/// Writes a whole value to store.
pub(super) fn to_json<T: Json>(value: &T) -> String {
    let mut out = String::new();
    value.write(&mut out);
    out
}

/// The fields of an object, by name.
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    pub(super) fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }

    /// The field of this name, or the zero value.
    pub(super) fn take<T: Json + Default>(&self, name: &str) -> Result<T, serde_json::Error> {
        let exact = self.0.get(name);
        let same = || {
            self.0
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let found = exact.or_else(|| same().map(|(_, value)| value));
        found.map_or_else(|| Ok(T::default()), |value| or_zero(value))
    }
}

/// Declares a structure that is stored as a JSON object. A field marked `omitempty` is left out
/// while it is empty.
macro_rules! json_object {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$fdoc:meta])* $field:ident: $type:ty = $key:literal $($omit:ident)?,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
        }

        impl $crate::control::json::Json for $name {
            fn write(&self, out: &mut alloc::string::String) {
                let mut separator = '{';
                $(
                    if true $(&& $crate::control::json::json_object!(@$omit self.$field))? {
                        out.push(core::mem::replace(&mut separator, ','));
                        out.push_str(concat!("\"", $key, "\":"));
                        $crate::control::json::Json::write(&self.$field, out);
                    }
                )*
                out.push('}');
            }

            fn read(text: &str) -> Result<Self, serde_json::Error> {
                let fields = $crate::control::json::Fields::read(text)?;
                Ok(Self { $($field: fields.take($key)?,)* })
            }
        }

        $crate::control::json::json_value!($name);
    };
    (@omitempty $value:expr) => {
        !$value.is_empty()
    };
}

/// Gives a type the two functions for whole values.
macro_rules! json_value {
    ($name:ident) => {
        impl $name {
            /// Reads a stored value.
            ///
            /// # Errors
            /// 42502 if it is not such a value.
            pub fn parse(value: &[u8]) -> $crate::error::Result<Self> {
                $crate::control::json::parse(value)
            }

            /// The value as stored.
            pub fn to_json(&self) -> alloc::string::String {
                $crate::control::json::to_json(self)
            }
        }
    };
}

pub(super) use {json_object, json_value};

impl Json for String {
    fn write(&self, out: &mut String) {
        out.push('"');
        for char in self.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.push_str(&format!("\\u{:04x}", u32::from(char)));
                }
                _ => out.push(char),
            }
        }
        out.push('"');
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl Json for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl Json for i64 {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl<T: Json + Default> Json for Vec<T> {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            item.write(out);
        }
        out.push(']');
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        let items: Vec<Box<RawValue>> = serde_json::from_str(text)?;
        items.iter().map(|item| or_zero(item)).collect()
    }
}

/// A list or object that may be absent, which is not the same as empty.
impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        T::read(text).map(Some)
    }
}

impl<T: Json + Default> Json for BTreeMap<String, T> {
    fn write(&self, out: &mut String) {
        write_object(out, self, |value, out| value.write(out));
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        let items: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
        let read = |(key, item): (String, Box<RawValue>)| Ok((key, or_zero(&item)?));
        items.into_iter().map(read).collect()
    }
}

/// A set, stored as an object of empty objects.
impl Json for BTreeSet<String> {
    fn write(&self, out: &mut String) {
        write_object(out, self.iter().map(|key| (key, ())), |(), out| {
            out.push_str("{}")
        });
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        let items: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
        Ok(items.into_keys().collect())
    }
}

/// Appends an object of values by name.
fn write_object<'a, V>(
    out: &mut String,
    entries: impl IntoIterator<Item = (&'a String, V)>,
    write: impl Fn(V, &mut String),
) {
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        key.write(out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// A value, or the zero value for `null`.
fn or_zero<T: Json + Default>(value: &RawValue) -> Result<T, serde_json::Error> {
    match value.get() {
        "null" => Ok(T::default()),
        text => T::read(text),
    }
}

/// JSON text that is stored as it is, because what it means is somebody else's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbatim(String);

impl Verbatim {
    /// Takes one JSON value.
    ///
    /// # Errors
    /// 42502 if the text is not one JSON value.
    pub fn new(json: &str) -> Result<Self> {
        parse(json.as_bytes())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Verbatim {
    fn default() -> Self {
        Self("null".to_string())
    }
}

impl Json for Verbatim {
    fn write(&self, out: &mut String) {
        out.push_str(&self.0);
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Box<RawValue>>(text).map(|raw| Self(raw.get().to_string()))
    }
}

/// A list of which an old form is one element without the list around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<Verbatim>);

impl Json for OneOrMany {
    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        if text.starts_with('[') {
            Vec::read(text).map(Self)
        } else {
            Verbatim::read(text).map(|one| Self(vec![one]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_like_the_existing_writers_do() {
        let text = "a\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}<>&\u{2028}\u{2029}é😀".to_string();
        let json = to_json(&text);
        assert_eq!(
            json,
            "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}\\u003c\\u003e\\u0026\\u2028\\u2029é😀\""
        );
        assert_eq!(parse(json.as_bytes()), Ok(text));
    }

    #[test]
    fn absent_is_not_empty() {
        assert_eq!(to_json(&None::<Vec<String>>), "null");
        assert_eq!(to_json(&Some(Vec::<String>::new())), "[]");
        assert_eq!(to_json(&BTreeMap::<String, bool>::new()), "{}");
    }

    #[test]
    fn verbatim_text_has_to_be_json() {
        assert_eq!(
            Verbatim::new("{\"b\": 1, \"a\": 2}").map(|v| v.0),
            Ok("{\"b\": 1, \"a\": 2}".into())
        );
        assert!(Verbatim::new("{").is_err());
    }
}
