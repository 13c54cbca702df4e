//! Rotary position embedding: the inverse frequency of each pair of a head's numbers.
//!
//! Turning queries and keys by position times frequency belongs to the transformer.

use std::f32::consts::PI;

/// The rotary embedding of some of a model's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the geometric series of wavelengths; finite and positive.
    pub theta: f32,
    /// How the series is stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// How frequencies are changed so that a model reaches beyond the context it was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by one number.
    Linear {
        /// The divisor; finite and positive.
        factor: f32,
    },
    /// Long wavelengths divided, short ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// The divisor of the long wavelengths.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// The context length before stretching.
        original_context: usize,
    },
    /// One divisor for each frequency: how a GGUF file states Llama 3.1's scaling.
    Factors(
        /// `D/2` divisors, finite and positive.
        Vec<f32>,
    ),
}

impl Rope {
    /// The `head_size / 2` inverse frequencies, in radians per position: pair `i` turns by
    /// `theta^(-2i / head_size)`, then scaled.
    pub fn frequencies(&self, head_size: usize) -> Vec<f32> {
        (0..head_size / 2)
            .map(|i| {
                // The power in f64, rounded once: the reference's f32 power is right to the last bit or nearly.
                let exponent = (2 * i) as f32 / head_size as f32;
                let plain = 1.0 / f64::from(self.theta).powf(f64::from(exponent)) as f32;
                match &self.scaling {
                    RopeScaling::None => plain,
                    RopeScaling::Linear { factor } => plain / factor,
                    RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                        let context = *original_context as f32;
                        let wavelength = 2.0 * PI / plain;
                        if wavelength > context / low_freq_factor {
                            plain / factor
                        } else if wavelength < context / high_freq_factor {
                            plain
                        } else {
                            let kept = (context / wavelength - low_freq_factor)
                                / (high_freq_factor - low_freq_factor);
                            (1.0 - kept) * (plain / factor) + kept * plain
                        }
                    }
                    RopeScaling::Factors(factors) => plain / factors[i],
                }
            })
            .collect()
    }
}
