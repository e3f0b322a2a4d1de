//! Checked values going into typed fields.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use super::settings::{GatewaySocket, KeyLocation, Listen, LogLevel};
use super::value::ConfigValue;
use crate::pool::{Fallback, Mode, Overflow, Primary, Protect, Strategy};

/// A field that takes values of its kind.
pub(super) trait Assign {
    /// Takes the value; false if it is of another kind.
    fn put(&mut self, value: &ConfigValue) -> bool;
}

/// Stores what was converted, if it was.
fn store<T>(slot: &mut T, converted: Option<T>) -> bool {
    converted.map(|value| *slot = value).is_some()
}

impl Assign for bool {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Bool(value) = value { Some(*value) } else { None })
    }
}

impl Assign for f64 {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Number(value) = value { Some(*value) } else { None })
    }
}

impl Assign for String {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Text(value) = value { Some(value.clone()) } else { None })
    }
}

impl Assign for PathBuf {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Text(value) = value { Some(Self::from(value)) } else { None })
    }
}

impl Assign for Duration {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Duration(value) = value { Some(*value) } else { None })
    }
}

impl Assign for u64 {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Size(value) = value { Some(*value) } else { None })
    }
}

impl Assign for Vec<String> {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Texts(value) = value { Some(value.clone()) } else { None })
    }
}

impl Assign for Vec<Duration> {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Durations(value) = value { Some(value.clone()) } else { None })
    }
}

impl Assign for Vec<Protect> {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Protect(value) = value { Some(value.clone()) } else { None })
    }
}

impl Assign for Listen {
    fn put(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Text(value) = value { value.parse().ok() } else { None })
    }
}

impl Assign for GatewaySocket {
    fn put(&mut self, value: &ConfigValue) -> bool {
        let ConfigValue::Text(text) = value else { return false };
        *self = match text.as_str() {
            "" => Self::Beside,
            "off" => Self::Off,
            path => Self::At(PathBuf::from(path)),
        };
        true
    }
}

/// Empty and off mean none.
impl<T: Assign + Default> Assign for Option<T> {
    fn put(&mut self, value: &ConfigValue) -> bool {
        if matches!(value, ConfigValue::Off(_)) || matches!(value, ConfigValue::Text(text) if text.is_empty()) {
            *self = None;
            return true;
        }
        let mut inner = T::default();
        inner.put(value) && store(self, Some(Some(inner)))
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Assign for $type {
            fn put(&mut self, value: &ConfigValue) -> bool {
                store(self, if let ConfigValue::Integer(value) = value { Self::try_from(*value).ok() } else { None })
            }
        }
    )*};
}
integers!(u16 u32 i32);

macro_rules! words {
    ($($type:ty)*) => {$(
        impl Assign for $type {
            fn put(&mut self, value: &ConfigValue) -> bool {
                let ConfigValue::Text(word) = value else { return false };
                store(self, Self::deserialize(StrDeserializer::<Error>::new(word)).ok())
            }
        }
    )*};
}
words!(LogLevel Overflow Strategy Mode Primary Fallback KeyLocation);
