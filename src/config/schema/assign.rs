//! Assigns checked values to typed fields.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use super::types::{GatewaySocket, KeyLocation, KindMix, Listen, LogLevel};
use super::value::ConfigValue;
use crate::pool::{
    AttestPolicy, Fallback, Mode, OveragePolicy, Overflow, Primary, Protect, Strategy, SubagentPlacement,
};

/// A field that values of its kind can be assigned to.
pub(in crate::config) trait Assign {
    /// Assigns the value; false if it is of another kind.
    fn assign(&mut self, value: &ConfigValue) -> bool;
}

/// Assigns the converted value, if the conversion succeeded.
fn store<T>(slot: &mut T, converted: Option<T>) -> bool {
    converted.map(|value| *slot = value).is_some()
}

macro_rules! values {
    ($($variant:ident => $type:ty;)*) => {$(
        impl Assign for $type {
            fn assign(&mut self, value: &ConfigValue) -> bool {
                store(self, if let ConfigValue::$variant(value) = value { Some(value.clone().into()) } else { None })
            }
        }
    )*};
}
values! {
    Bool => bool;
    Number => f64;
    Text => String;
    Text => PathBuf;
    Duration => Duration;
    Size => u64;
    Texts => Vec<String>;
    Durations => Vec<Duration>;
    Protect => Vec<Protect>;
}

impl Assign for Listen {
    fn assign(&mut self, value: &ConfigValue) -> bool {
        store(self, if let ConfigValue::Text(value) = value { Self::parse(value) } else { None })
    }
}

impl Assign for GatewaySocket {
    fn assign(&mut self, value: &ConfigValue) -> bool {
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
    fn assign(&mut self, value: &ConfigValue) -> bool {
        if matches!(value, ConfigValue::Off(_)) || matches!(value, ConfigValue::Text(text) if text.is_empty()) {
            *self = None;
            return true;
        }
        let mut inner = T::default();
        inner.assign(value) && store(self, Some(Some(inner)))
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Assign for $type {
            fn assign(&mut self, value: &ConfigValue) -> bool {
                store(self, if let ConfigValue::Integer(value) = value { Self::try_from(*value).ok() } else { None })
            }
        }
    )*};
}
integers!(u16 u32 i32);

macro_rules! words {
    ($($type:ty)*) => {$(
        impl Assign for $type {
            fn assign(&mut self, value: &ConfigValue) -> bool {
                let ConfigValue::Text(word) = value else { return false };
                store(self, Self::deserialize(StrDeserializer::<Error>::new(word)).ok())
            }
        }
    )*};
}
words!(AttestPolicy LogLevel Overflow Strategy Mode Primary Fallback OveragePolicy KeyLocation KindMix SubagentPlacement);
