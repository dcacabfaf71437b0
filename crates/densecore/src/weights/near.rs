//! Names like a name that is missing, for messages.

/// Up to three names most like `wanted`: those sharing the longest beginning and end with it.
pub(super) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let likeness = |name: &str| {
        let head = wanted.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let tail = wanted.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
        head + tail
    };
    let mut scored: Vec<_> = names.map(|name| (likeness(name), name)).collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
