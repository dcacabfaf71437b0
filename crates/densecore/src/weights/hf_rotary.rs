//! Rotary settings of config.json. Those that would change the result and are not computed are refused.

use super::hf_config::{Fields, show};
use super::metadata::brief;
use crate::arch::{Rotary, Scaling, Settings, Windows};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Where a rotary setting may stand: older files and newer ones, which may have one for each kind of layer.
const PLACES: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// The rotation of the layers of a kind, `full_attention` or `sliding_attention`.
pub(super) fn read(fields: &Fields<'_>, settings: &Settings, head_dim: usize, kind: &str) -> Result<Rotary> {
    let mut places = places(fields, kind)?;
    let (own, usual) = match settings.windows {
        Windows::Listed { base, .. } if kind == "sliding_attention" => {
            // Older files mean the layers that see everything unless they say otherwise.
            places.retain(|place| !place.shared);
            (fields.number("rope_local_base_freq")?, base)
        }
        Windows::Listed { .. } => (fields.number("rope_theta")?, 1_000_000.0),
        _ => (fields.number("rope_theta")?, 10_000.0),
    };
    let base = agreed(fields, &places, "rope_theta", own)?.unwrap_or(usual);
    let share = agreed(fields, &places, "partial_rotary_factor", fields.number("partial_rotary_factor")?)?;
    let dims = (head_dim as f64 * share.unwrap_or(settings.rotary_share)) as usize;
    let mut scaling = Scaling::None;
    for place in &places {
        match scaling_of(fields, place)? {
            Scaling::None => {}
            found => scaling = found,
        }
    }
    Ok(Rotary { dims, base: base as f32, scaling })
}

/// One object of rotary settings.
struct Place<'a> {
    key: &'static str,
    map: &'a Map<String, Value>,
    /// For layers of every kind.
    shared: bool,
}

fn places<'a>(fields: &'a Fields<'_>, kind: &str) -> Result<Vec<Place<'a>>> {
    let mut places = Vec::new();
    for key in PLACES {
        match fields.get(key) {
            None => {}
            Some(Value::Object(map)) => {
                let by_kind = |name: &str| map.get(name).and_then(Value::as_object);
                if let Some(map) = by_kind(kind) {
                    places.push(Place { key, map, shared: false });
                } else if by_kind("full_attention").is_none() && by_kind("sliding_attention").is_none() {
                    places.push(Place { key, map, shared: true });
                }
            }
            Some(other) => return Err(fields.bad(format!("{key} is {}; it must be an object", show(other)))),
        }
    }
    Ok(places)
}

/// A number that stands in one or several places; where it stands twice, both must say the same.
fn agreed(fields: &Fields<'_>, places: &[Place<'_>], name: &str, outside: Option<f64>) -> Result<Option<f64>> {
    let mut known = outside;
    for Place { key, map, .. } in places {
        let Some(value) = map.get(name).filter(|v| !v.is_null()) else { continue };
        let Some(value) = value.as_f64() else {
            return Err(fields.bad(format!("{key}.{name} is {}; it must be a number", show(value))));
        };
        if known.is_some_and(|known| (known - value).abs() > 1e-6 * value.abs()) {
            return Err(fields.bad(format!(
                "{key}.{name} is {value} but the file also says {}; the two must agree",
                known.unwrap_or_default()
            )));
        }
        known = Some(value);
    }
    Ok(known)
}

fn scaling_of(fields: &Fields<'_>, place: &Place<'_>) -> Result<Scaling> {
    let Place { key, map, .. } = place;
    let refuse = |value: String| {
        Error::unsupported(
            "RoPE scaling",
            value,
            "use a model with \"default\", \"linear\", \"llama3\" or \"yarn\", or its unscaled variant",
        )
    };
    let number = |name: &str| -> Result<Option<f64>> {
        match map.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(fields.bad(format!("{key}.{name} is {}; it must be a number", show(value)))),
            },
        }
    };
    let needed =
        |name: &str| -> Result<f64> { number(name)?.ok_or_else(|| fields.bad(format!("{key}.{name} is missing"))) };
    let mut kind = "default";
    for name in ["rope_type", "type"] {
        match map.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(named)) => kind = named,
            Some(other) => return Err(refuse(format!("{key}.{name} = {}", show(other)))),
        }
    }
    let original = || -> Result<usize> {
        match number("original_max_position_embeddings")? {
            Some(length) => Ok(length as usize),
            None => Ok(fields
                .count("original_max_position_embeddings")?
                .or(fields.count("max_position_embeddings")?)
                .unwrap_or(0)),
        }
    };
    let (scaling, known): (Scaling, &[&str]) = match kind {
        "default" => (Scaling::None, &[]),
        "linear" => (Scaling::Linear { factor: needed("factor")? as f32 }, &["factor"]),
        "llama3" => (
            Scaling::Llama3 {
                factor: needed("factor")? as f32,
                low: needed("low_freq_factor")? as f32,
                high: needed("high_freq_factor")? as f32,
                original: original()?,
            },
            &["factor", "low_freq_factor", "high_freq_factor"],
        ),
        "yarn" => {
            let factor = needed("factor")? as f32;
            (
                Scaling::Yarn {
                    factor,
                    fast: number("beta_fast")?.unwrap_or(32.0) as f32,
                    slow: number("beta_slow")?.unwrap_or(1.0) as f32,
                    original: original()?,
                    attention: number("attention_factor")?.map_or(Scaling::yarn_attention(factor), |a| a as f32),
                },
                &["factor", "beta_fast", "beta_slow", "attention_factor"],
            )
        }
        other => return Err(refuse(format!("{key}.rope_type = {:?}", brief(other)))),
    };
    for (name, value) in *map {
        match name.as_str() {
            "rope_theta" | "rope_type" | "type" | "original_max_position_embeddings" | "partial_rotary_factor" => {}
            "factor" | "attention_factor" if matches!(value.as_f64(), Some(1.0)) => {}
            name if known.contains(&name) => {}
            _ if value.is_null() => {}
            "truncate" if value.as_bool() == Some(true) => {}
            _ => return Err(refuse(format!("{key}.{} = {}", brief(name), show(value)))),
        }
    }
    Ok(scaling)
}
