//! Checked values going into typed fields.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use super::settings::{GatewaySocket, KeyPlace, Listen, LogLevel};
use super::value::Value;
use crate::pool::{Fallback, Mode, Overflow, Primary, Protect, Strategy};

/// A field that takes values of its kind.
pub(super) trait Slot {
    /// Takes the value; false if it is of another kind.
    fn put(&mut self, value: &Value) -> bool;
}

/// Stores what was converted, if it was.
fn store<T>(slot: &mut T, converted: Option<T>) -> bool {
    converted.map(|value| *slot = value).is_some()
}

impl Slot for bool {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Bool(value) = value { Some(*value) } else { None })
    }
}

impl Slot for f64 {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Number(value) = value { Some(*value) } else { None })
    }
}

impl Slot for String {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Text(value) = value { Some(value.clone()) } else { None })
    }
}

impl Slot for PathBuf {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Text(value) = value { Some(Self::from(value)) } else { None })
    }
}

impl Slot for Duration {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Duration(value) = value { Some(*value) } else { None })
    }
}

impl Slot for u64 {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Size(value) = value { Some(*value) } else { None })
    }
}

impl Slot for Vec<String> {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Texts(value) = value { Some(value.clone()) } else { None })
    }
}

impl Slot for Vec<Duration> {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Durations(value) = value { Some(value.clone()) } else { None })
    }
}

impl Slot for Vec<Protect> {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Protect(value) = value { Some(value.clone()) } else { None })
    }
}

impl Slot for Listen {
    fn put(&mut self, value: &Value) -> bool {
        store(self, if let Value::Text(value) = value { value.parse().ok() } else { None })
    }
}

impl Slot for GatewaySocket {
    fn put(&mut self, value: &Value) -> bool {
        let Value::Text(text) = value else { return false };
        *self = match text.as_str() {
            "" => Self::Beside,
            "off" => Self::Off,
            path => Self::At(PathBuf::from(path)),
        };
        true
    }
}

/// Empty and off mean none.
impl<T: Slot + Default> Slot for Option<T> {
    fn put(&mut self, value: &Value) -> bool {
        if matches!(value, Value::Off(_)) || matches!(value, Value::Text(text) if text.is_empty()) {
            *self = None;
            return true;
        }
        let mut inner = T::default();
        inner.put(value) && store(self, Some(Some(inner)))
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Slot for $type {
            fn put(&mut self, value: &Value) -> bool {
                store(self, if let Value::Integer(value) = value { Self::try_from(*value).ok() } else { None })
            }
        }
    )*};
}
integers!(u16 u32 i32);

macro_rules! words {
    ($($type:ty)*) => {$(
        impl Slot for $type {
            fn put(&mut self, value: &Value) -> bool {
                let Value::Text(word) = value else { return false };
                store(self, Self::deserialize(StrDeserializer::<Error>::new(word)).ok())
            }
        }
    )*};
}
words!(LogLevel Overflow Strategy Mode Primary Fallback KeyPlace);
