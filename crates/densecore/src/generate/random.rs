//! Streams of random numbers.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A stream of random numbers (SplitMix64): small, seedable, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    /// Stream `place` of a seed: those of different places are independent, and that of place 0 is the seed's own. Without a
    /// seed, a fresh stream each time.
    pub fn new(seed: Option<u64>, place: u64) -> Self {
        match (seed, place) {
            (None, _) => Self(RandomState::new().build_hasher().finish()),
            (Some(seed), 0) => Self(seed),
            (Some(seed), _) => Self(mixed(seed ^ mixed(place))),
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_seed_are_streams_of_their_own_and_come_again() {
        let draws = |seed, place| {
            let mut random = Random::new(Some(seed), place);
            (0..100).map(|_| random.uniform().to_bits()).collect::<Vec<_>>()
        };
        let mut seen = std::collections::HashSet::new();
        for seed in 0..20 {
            for place in 0..20 {
                assert_eq!(draws(seed, place), draws(seed, place));
                seen.extend(draws(seed, place));
            }
        }
        assert!(seen.len() > 20 * 20 * 100 - 3, "streams overlap: {} values", seen.len());
    }
}
