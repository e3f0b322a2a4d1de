//! An upstream's response in a holder's report: headers and bodies of any shape in JSON, plain lists and texts in
//! frames.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Headers by name, in their order. In JSON an object; the value of a repeated header is a list, and a
/// number is read as its text.
#[derive(Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(with = "BTreeMap<String, serde_json::Value>")]
pub struct HeaderList(pub Vec<(String, String)>);

/// A body. In JSON a text or a document.
#[derive(Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(with = "serde_json::Value")]
pub struct BodyText(pub String);

/// A JSON object, kept as its text.
#[derive(Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(with = "serde_json::Map<String, serde_json::Value>")]
pub struct ObjectText(pub String);

/// A header's value or values, as JSON clients write them.
#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderValues {
    Text(String),
    Number(serde_json::Number),
    Truth(bool),
    List(Vec<Self>),
    Nothing(()),
}

impl HeaderValues {
    fn into_texts(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Number(number) => vec![number.to_string()],
            Self::Truth(truth) => vec![truth.to_string()],
            Self::List(values) => values.into_iter().flat_map(Self::into_texts).collect(),
            Self::Nothing(()) => Vec::new(),
        }
    }
}

impl Serialize for HeaderList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        let is_first = |at: usize| self.0[..at].iter().all(|(name, _)| *name != self.0[at].0);
        for (_, (name, value)) in self.0.iter().enumerate().filter(|(at, _)| is_first(*at)) {
            let values: Vec<&str> =
                self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
            if values.len() == 1 { map.serialize_entry(name, value)? } else { map.serialize_entry(name, &values)? }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = HeaderList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList, A::Error> {
                let mut list = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, HeaderValues>()? {
                    list.extend(value.into_texts().into_iter().map(|value| (name.clone(), value)));
                }
                Ok(HeaderList(list))
            }

            // pairs, as some libraries have them
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HeaderList, A::Error> {
                let mut list = Vec::new();
                while let Some((name, value)) = seq.next_element::<(String, HeaderValues)>()? {
                    list.extend(value.into_texts().into_iter().map(|value| (name.clone(), value)));
                }
                Ok(HeaderList(list))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(HeadersVisitor)
        } else {
            Vec::deserialize(deserializer).map(Self)
        }
    }
}

impl Serialize for BodyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BodyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return String::deserialize(deserializer).map(Self);
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw.get()).map(Self).map_err(D::Error::custom),
            _ => Ok(Self(raw.get().to_owned())),
        }
    }
}

impl Serialize for ObjectText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        serde_json::from_str::<serde_json::Value>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return String::deserialize(deserializer).map(Self);
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("an object is expected"));
        }
        Ok(Self(raw.get().to_owned()))
    }
}

// an upstream's response may contain private text: only its length is printed
impl fmt::Debug for HeaderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for BodyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyText({} bytes)", self.0.len())
    }
}

impl fmt::Debug for ObjectText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectText({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Vec<(String, String)> {
        serde_json::from_str::<HeaderList>(text).unwrap().0
    }

    #[test]
    fn headers_in_every_json_shape() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("{}", vec![]),
            (r#"{"Retry-After":"7"}"#, vec![pair("Retry-After", "7")]),
            (r#"{"retry-after":7,"x":true,"y":null}"#, vec![pair("retry-after", "7"), pair("x", "true")]),
            (r#"{"a":["1","2"]}"#, vec![pair("a", "1"), pair("a", "2")]),
            (r#"[["a","1"],["a",2]]"#, vec![pair("a", "1"), pair("a", "2")]),
        ] {
            assert_eq!(headers(text), expected, "{text}");
        }
        for bad in [r#"{"a":{}}"#, r#"[["a"]]"#, "\"a: b\"", "7"] {
            assert!(serde_json::from_str::<HeaderList>(bad).is_err(), "{bad}");
        }
        let twice = HeaderList(vec![pair("a", "1"), pair("b", "2"), pair("a", "3")]);
        assert_eq!(serde_json::to_string(&twice).unwrap(), r#"{"a":["1","3"],"b":"2"}"#);
    }

    #[test]
    fn a_body_is_a_text_or_a_document() {
        for (text, expected) in [
            (r#""{\"error\":1}""#, "{\"error\":1}"),
            (r#"{"error": 1}"#, "{\"error\": 1}"),
            ("\"Too \\u00fcany\"", "Too üany"),
            ("[1]", "[1]"),
        ] {
            assert_eq!(serde_json::from_str::<BodyText>(text).unwrap().0, expected);
        }
        assert!(serde_json::from_str::<ObjectText>("[1]").is_err());
        assert_eq!(format!("{:?}", BodyText("secret".into())), "BodyText(6 bytes)");
    }
}
