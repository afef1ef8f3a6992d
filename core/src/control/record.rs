//! Structures whose fields are keys of a configuration text.
//!
//! [`record!`](crate::record) declares the fields once; reading and writing follow from it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::document::{Node, Reader, Value};
use super::duration;
use super::toml::{self, Item};

/// A value of a configuration.
pub trait Field {
    /// Takes over what a document says, and notes in `reader` what cannot be taken over.
    fn read(&mut self, node: &Node, reader: &mut Reader);

    /// The value for writing; nothing if it is left out.
    fn write(&self) -> Option<Item>;
}

/// Names of fields.
pub type Keys = Vec<&'static str>;

/// Named values to write, in order.
pub type Entries = Vec<(String, Item)>;

/// A value made of named values.
pub trait Record {
    /// Takes over one named value. Returns false if no field has this name.
    fn read_entry(&mut self, key: &str, node: &Node, reader: &mut Reader) -> bool;

    /// Appends the names of the fields.
    fn keys(out: &mut Keys);

    /// Appends the fields.
    fn write_entries(&self, out: &mut Entries);
}

impl<R: Record> Field for R {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.value {
            Value::Null => {}
            Value::Table(entries) => {
                for entry in entries {
                    if !self.read_entry(&entry.key, &entry.node, reader) {
                        let mut allowed = Vec::new();
                        R::keys(&mut allowed);
                        reader.unknown(&entry.key, entry.line, &allowed);
                    }
                }
            }
            _ => reader.expected("a table", node),
        }
    }

    fn write(&self) -> Option<Item> {
        let mut entries = Vec::new();
        self.write_entries(&mut entries);
        Some(Item::Table(entries))
    }
}

/// Declares a [`Record`]: a structure of public fields, each with
/// its key. A field with the key `flat` is itself a record, whose keys are keys of this one.
#[macro_export]
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty = $key:tt,)* }) => {
        $(#[$doc])*
        #[allow(unreachable_pub)]
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
        }

        #[allow(unused_variables)]
        impl $crate::control::record::Record for $name {
            fn read_entry(
                &mut self,
                key: &str,
                node: &$crate::control::document::Node,
                reader: &mut $crate::control::document::Reader,
            ) -> bool {
                $(
                    $crate::record!(@read self, $field, $key, key, node, reader);
                )*
                false
            }

            fn keys(out: &mut $crate::control::record::Keys) {
                $($crate::record!(@keys $type, $key, out);)*
            }

            fn write_entries(
                &self,
                out: &mut $crate::control::record::Entries,
            ) {
                $($crate::record!(@write self, $field, $key, out);)*
            }
        }
    };
    (@read $self:ident, $field:ident, flat, $key:ident, $node:ident, $reader:ident) => {
        if $crate::control::record::Record::read_entry(&mut $self.$field, $key, $node, $reader) {
            return true;
        }
    };
    (@read $self:ident, $field:ident, $name:literal, $key:ident, $node:ident, $reader:ident) => {
        if $reader.same_key($key, $name) {
            $reader.within($name, |reader| {
                $crate::control::record::Field::read(&mut $self.$field, $node, reader);
            });
            return true;
        }
    };
    (@keys $type:ty, flat, $out:ident) => {
        <$type as $crate::control::record::Record>::keys($out);
    };
    (@keys $type:ty, $name:literal, $out:ident) => {
        $out.push($name);
    };
    (@write $self:ident, $field:ident, flat, $out:ident) => {
        $crate::control::record::Record::write_entries(&$self.$field, $out);
    };
    (@write $self:ident, $field:ident, $name:literal, $out:ident) => {
        if let Some(item) = $crate::control::record::Field::write(&$self.$field) {
            $out.push(($name.into(), item));
        }
    };
}

impl Field for bool {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let plain = match &node.value {
            Value::Null => return,
            Value::Bool(value) => Some(*value),
            Value::Plain(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some(true),
                "false" | "no" | "off" | "n" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match plain {
            Some(value) => *self = value,
            None => reader.expected("true or false", node),
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::Scalar(self.to_string()))
    }
}

macro_rules! integer {
    ($($type:ident)*) => {$(
        impl Field for $type {
            fn read(&mut self, node: &Node, reader: &mut Reader) {
                let number = match &node.value {
                    Value::Null => return,
                    Value::Integer(number) => Some(*number),
                    Value::Plain(text) => whole_number(text),
                    _ => None,
                };
                match number.and_then(|number| Self::try_from(number).ok()) {
                    Some(number) => *self = number,
                    None => {
                        let range = format!("a whole number from {} to {}", Self::MIN, Self::MAX);
                        reader.expected(&range, node);
                    }
                }
            }

            fn write(&self) -> Option<Item> {
                Some(Item::Scalar(self.to_string()))
            }
        }
    )*};
}

integer!(u8 u16 u32 u64 i64);

fn whole_number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Field for f64 {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let number = match &node.value {
            Value::Null => return,
            Value::Float(number) => Some(*number),
            // Exact for every number that makes sense here.
            Value::Integer(number) => Some(*number as Self),
            Value::Plain(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => *self = number,
            None => reader.expected("a number", node),
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::Scalar(format!("{self:?}")))
    }
}

impl Field for String {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.value {
            Value::Null => {}
            Value::Text(text) | Value::Plain(text) => self.clone_from(text),
            _ => reader.expected("a text", node),
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::Scalar(toml::quote(self)))
    }
}

impl Field for Duration {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let mut text = String::new();
        match &node.value {
            Value::Null => return,
            Value::Text(value) | Value::Plain(value) => text.clone_from(value),
            _ => {}
        }
        match duration::parse(&text) {
            Some(duration) => *self = duration,
            None => reader.expected("a duration such as 30s, 5m or 1h30m", node),
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::Scalar(toml::quote(&duration::format(*self))))
    }
}

/// Absent is not the same as zero or empty.
impl<T: Field + Default> Field for Option<T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        if node.value != Value::Null {
            self.get_or_insert_default().read(node, reader);
        }
    }

    fn write(&self) -> Option<Item> {
        self.as_ref().and_then(Field::write)
    }
}

impl<T: Field + Default> Field for Vec<T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let items = match &node.value {
            Value::Null => return,
            Value::List(items) => items,
            _ => return reader.expected("a list", node),
        };
        self.clear();
        for (index, item) in items.iter().enumerate() {
            let mut value = T::default();
            reader.within_element(index, |reader| value.read(item, reader));
            self.push(value);
        }
    }

    fn write(&self) -> Option<Item> {
        Some(Item::List(self.iter().filter_map(Field::write).collect()))
    }
}

impl<T: Field + Default> Field for BTreeMap<String, T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        let entries = match &node.value {
            Value::Null => return,
            Value::Table(entries) => entries,
            _ => return reader.expected("a table", node),
        };
        for entry in entries {
            let value = self.entry(entry.key.clone()).or_default();
            reader.within(entry.key.clone(), |reader| value.read(&entry.node, reader));
        }
    }

    fn write(&self) -> Option<Item> {
        let entries = self
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.write()?)));
        Some(Item::Table(entries.collect()))
    }
}

/// A value that does not show in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(pub T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Field> Field for Secret<T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        self.0.read(node, reader);
    }

    fn write(&self) -> Option<Item> {
        self.0.write()
    }
}

record! {
    /// A table of which only the presence counts.
    Present {}
}
