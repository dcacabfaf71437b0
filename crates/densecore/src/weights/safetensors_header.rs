//! The JSON of a safetensors header and of a shard index, read with repeats and excess refused as they appear.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::metadata::brief;
use crate::limits::Limits;

/// Dimensions kept of one shape. Longer lists are refused while reading, so that none is ever allocated.
const MAX_DIMS: usize = 16;

/// One tensor as the header describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub dtype: String,
    pub shape: Dims,
    /// Begin and end within the payload (bytes).
    pub data_offsets: (u64, u64),
}

/// A shape of at most [`MAX_DIMS`] dimensions.
#[derive(Debug)]
pub(super) struct Dims(pub Vec<u64>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of up to {MAX_DIMS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = list.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(A::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}

/// Tensors of a header, in its order.
pub(super) fn entries(text: &[u8], limits: &Limits) -> serde_json::Result<Vec<(String, Entry)>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let entries = HeaderSeed(limits).deserialize(&mut reader)?;
    reader.end()?;
    Ok(entries)
}

struct HeaderSeed<'l>(&'l Limits);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Vec<(String, Entry)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Vec<(String, Entry)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            fresh(&mut seen, &name, self.0)?;
            if name == "__metadata__" {
                map.next_value::<BTreeMap<String, String>>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(entries)
    }
}

/// Where an index places each tensor: tensor name to shard name.
pub(super) fn weight_map(text: &[u8], limits: &Limits) -> serde_json::Result<BTreeMap<String, String>> {
    struct Index<'l>(&'l Limits);
    impl<'de> Visitor<'de> for Index<'_> {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with one weight_map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut places = None;
            while let Some(key) = map.next_key::<String>()? {
                if key != "weight_map" {
                    map.next_value::<serde::de::IgnoredAny>()?;
                } else if places.replace(map.next_value_seed(Places(self.0))?).is_some() {
                    return Err(A::Error::duplicate_field("weight_map"));
                }
            }
            places.ok_or_else(|| A::Error::missing_field("weight_map"))
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let places = reader.deserialize_map(Index(limits))?;
    reader.end()?;
    Ok(places)
}

struct Places<'l>(&'l Limits);

impl<'de> DeserializeSeed<'de> for Places<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Places<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut places = BTreeMap::new();
        while let Some((name, shard)) = map.next_entry::<String, String>()? {
            fresh(&mut seen, &name, self.0)?;
            places.insert(name, shard);
        }
        Ok(places)
    }
}

/// Refuses a name that is empty, too long, repeated, or one too many.
fn fresh<E: serde::de::Error>(seen: &mut HashSet<Box<str>>, name: &str, limits: &Limits) -> Result<(), E> {
    if name.is_empty() || name.len() as u64 > limits.metadata_key {
        return Err(E::custom(format!(
            "a tensor name has {} bytes; 1 to {} are read",
            name.len(),
            limits.metadata_key
        )));
    }
    if seen.len() as u64 >= limits.tensors {
        return Err(E::custom(format!("it names more than {} tensors", limits.tensors)));
    }
    if !seen.insert(name.into()) {
        return Err(E::custom(format!("{:?} appears twice", brief(name))));
    }
    Ok(())
}
