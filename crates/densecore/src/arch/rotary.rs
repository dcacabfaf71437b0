//! Rotary positions as a model's files describe them: how many components turn, how fast, and how that was stretched.

/// The rotation of query and key heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Components of a head that turn, even; the rest stays.
    pub dims: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Stretching to longer texts.
    pub scaling: Scaling,
}

/// How frequencies were changed for longer texts than those of the first training.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Turns within the original context at which a frequency counts as low.
        low: f32,
        /// Turns at which it counts as high.
        high: f32,
        /// Positions of the first training.
        original: usize,
    },
    /// YaRN: a ramp between kept and divided frequencies over the components, and warmer attention.
    Yarn {
        /// The divisor of low frequencies.
        factor: f32,
        /// Turns above which frequencies are kept.
        fast: f32,
        /// Turns below which they are divided.
        slow: f32,
        /// Positions of the first training.
        original: usize,
        /// Multiplies cosines and sines.
        attention: f32,
    },
    /// What each frequency is divided by, as GGUF files list it.
    Listed(Vec<f32>),
}

impl Scaling {
    /// The factor that YaRN multiplies cosines and sines by, unless a file says another.
    pub fn yarn_attention(factor: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
    }
}

impl Rotary {
    /// The angle per position of each pair, rounded to float32 where the reference rounds: a last-place difference here
    /// grows with the position.
    pub fn frequencies(&self) -> Vec<f32> {
        let pairs = self.dims / 2;
        let plain = |i: usize| 1.0 / self.base.powf((2 * i) as f32 / self.dims as f32);
        let ramp = self.ramp();
        (0..pairs)
            .map(|i| {
                let frequency = plain(i);
                match &self.scaling {
                    Scaling::None => frequency,
                    Scaling::Linear { factor } => frequency / factor,
                    Scaling::Llama3 { factor, low, high, original } => {
                        let length = 2.0 * std::f32::consts::PI / frequency;
                        let original = *original as f32;
                        if length > original / low {
                            frequency / factor
                        } else if length < original / high {
                            frequency
                        } else {
                            let smooth = (original / length - low) / (high - low);
                            (1.0 - smooth) * frequency / factor + smooth * frequency
                        }
                    }
                    Scaling::Yarn { factor, .. } => {
                        let kept = 1.0 - ((i as f32 - ramp.0) / (ramp.1 - ramp.0)).clamp(0.0, 1.0);
                        frequency / factor * (1.0 - kept) + frequency * kept
                    }
                    Scaling::Listed(divisors) => frequency / divisors.get(i).copied().unwrap_or(1.0),
                }
            })
            .collect()
    }

    /// Pairs between which YaRN goes from kept to divided frequencies.
    fn ramp(&self) -> (f32, f32) {
        let Scaling::Yarn { fast, slow, original, .. } = &self.scaling else { return (0.0, 1.0) };
        let (dims, base) = (self.dims as f64, f64::from(self.base));
        let pair = |turns: f32| {
            dims * (*original as f64 / (f64::from(turns) * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln())
        };
        let (low, high) = (pair(*fast).floor().max(0.0), pair(*slow).ceil().min(dims - 1.0));
        (low as f32, if low < high { high as f32 } else { low as f32 + 0.001 })
    }

    /// What cosines and sines are multiplied by.
    pub fn attention(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        }
    }
}
