//! Drawing tokens at random from what a model gives: temperature, then the k most probable, then the smallest set that holds a
//! share p, then those within a factor of the most probable one. Each row draws from its own generator, made from the seed and
//! its prompt, so an answer does not depend on what else is in the batch.

use crate::generate::Choose;
use underdog_eval::random::Random;
use underdog_eval::{Error, Kind, Result};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; above 0.
    pub temperature: f32,
    /// Only the so many most probable tokens; 0 for all.
    pub top_k: usize,
    /// Only the smallest set of most probable tokens that together have this share, 0 to 1; 1 for all.
    pub top_p: f32,
    /// Only tokens at least so probable, relative to the most probable one, 0 to 1; 0 for all.
    pub min_p: f32,
    /// The same seed and prompt give the same answer.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

impl Sampling {
    /// Refuses settings that say nothing.
    ///
    /// # Errors
    /// A temperature that is not above 0, or a share outside of 0 to 1.
    pub fn check(self) -> Result<Self> {
        let wrong = |what: &str, expected: &str, found: f32| {
            Err(Error::new(Kind::Usage, what).expected(expected).found(found.to_string()))
        };
        let Sampling { temperature, top_p, min_p, .. } = self;
        if !(temperature > 0.0 && temperature.is_finite()) {
            return wrong("--temperature", "a number above 0, or 0 for the most probable token", temperature);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong("--top-p", "a share above 0, at most 1", top_p);
        }
        if !(0.0..=1.0).contains(&min_p) {
            return wrong("--min-p", "a share from 0 to 1", min_p);
        }
        Ok(self)
    }

    /// What records call it: only what is not as it would be anyway.
    pub fn name(&self) -> String {
        let mut name = format!("temperature={}", self.temperature);
        if self.top_k > 0 {
            name.push_str(&format!(",top_k={}", self.top_k));
        }
        if self.top_p < 1.0 {
            name.push_str(&format!(",top_p={}", self.top_p));
        }
        if self.min_p > 0.0 {
            name.push_str(&format!(",min_p={}", self.min_p));
        }
        name.push_str(&format!(",seed={}", self.seed));
        name
    }

    /// Draws the tokens of one answer to a prompt.
    pub fn start(&self, prompt: &[u32]) -> Sampler {
        // The seed goes through the generator, so that nearby seeds do not give nearby states.
        let mut state = Random::new(self.seed).next_u64();
        for &token in prompt {
            state = Random::new(state ^ u64::from(token)).next_u64();
        }
        Sampler { settings: *self, random: Random::new(state), candidates: Vec::new() }
    }
}

/// One answer that is being drawn.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    random: Random,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// Puts the most probable candidates first, in order, until they hold the share that is wanted or there are no more;
    /// gives how many of them count.
    fn shorten(&mut self, weight: impl Fn(f32) -> f64) -> usize {
        let Sampling { top_k, top_p, min_p, .. } = self.settings;
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, order);
            self.candidates.truncate(top_k);
        }
        let total: f64 = self.candidates.iter().map(|c| weight(c.0)).sum();
        let wanted = f64::from(top_p) * total;
        // Most of the weight is in few tokens: sorting starts with some of them.
        let mut sorted = 64.min(self.candidates.len());
        loop {
            if sorted < self.candidates.len() {
                self.candidates.select_nth_unstable_by(sorted, order);
            }
            self.candidates[..sorted].sort_unstable_by(order);
            let mut sum = 0.0;
            for (i, candidate) in self.candidates[..sorted].iter().enumerate() {
                let weight = weight(candidate.0);
                if weight < f64::from(min_p) {
                    return i;
                }
                sum += weight;
                if sum >= wanted && top_p < 1.0 {
                    return i + 1;
                }
            }
            if sorted == self.candidates.len() {
                return sorted;
            }
            sorted = (sorted * 8).min(self.candidates.len());
        }
    }
}

impl Choose for Sampler {
    /// A random token. Where no logit is a number above −∞, the first token.
    fn choose(&mut self, logits: &[f32]) -> u32 {
        self.candidates.clear();
        let finite = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
        self.candidates.extend(finite.map(|(i, &l)| (l, i as u32)));
        let top = self.candidates.iter().map(|c| c.0).fold(f32::NEG_INFINITY, f32::max);
        let temperature = f64::from(self.settings.temperature);
        let weight = |logit: f32| (f64::from(logit - top) / temperature).exp();
        let all = self.settings.top_p >= 1.0 && self.settings.min_p <= 0.0;
        let count =
            if all && self.settings.top_k == 0 { self.candidates.len() } else { self.shorten(weight) };
        let kept = &self.candidates[..count];
        let total: f64 = kept.iter().map(|c| weight(c.0)).sum();
        // 53 bits are what a number in 0..1 holds.
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for &(logit, token) in kept {
            left -= weight(logit);
            if left < 0.0 {
                return token;
            }
        }
        kept.last().map_or(0, |c| c.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(settings: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0; logits.len()];
        let mut sampler = settings.start(&[1, 2, 3]);
        (0..20_000).for_each(|_| counts[sampler.choose(logits) as usize] += 1);
        counts.into_iter().map(|c| f64::from(c) / 20_000.0).collect()
    }

    /// Probabilities 0.5, 0.25, 0.15, 0.07, 0.03 in another order.
    fn logits() -> Vec<f32> {
        [0.07f32, 0.5, 0.03, 0.25, 0.15].iter().map(|p| p.ln() + 3.0).collect()
    }

    #[test]
    fn tokens_come_as_often_as_the_settings_say() {
        let plain = Sampling::default();
        let cases = [
            (plain, [0.07, 0.5, 0.03, 0.25, 0.15]),
            (Sampling { top_k: 2, ..plain }, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0, 0.0]),
            (Sampling { top_k: 1, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]),
            (Sampling { top_p: 0.8, ..plain }, [0.0, 0.5 / 0.9, 0.0, 0.25 / 0.9, 0.15 / 0.9]),
            (Sampling { top_p: 0.01, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]),
            (Sampling { min_p: 0.29, ..plain }, [0.0, 0.5 / 0.9, 0.0, 0.25 / 0.9, 0.15 / 0.9]),
            (
                Sampling { temperature: 0.5, ..plain },
                [0.0049, 0.25, 0.0009, 0.0625, 0.0225].map(|p| p / 0.3408),
            ),
        ];
        for (settings, want) in cases {
            for (got, want) in shares(settings, &logits()).into_iter().zip(want) {
                // Four standard deviations of a share of 20,000 draws.
                let bound = 4.0 * (want * (1.0 - want) / 20_000.0f64).sqrt();
                assert!((got - want).abs() <= bound, "{settings:?}: {got} for {want}");
            }
        }
    }

    #[test]
    fn many_tokens_are_cut_as_a_sorted_list_is() {
        let logits: Vec<f32> = (0..3000u32).map(|i| (i * 7919 % 3000) as f32 / 300.0).collect();
        let settings = Sampling { top_p: 0.9, ..Sampling::default() };
        let mut sampler = settings.start(&[]);
        sampler.candidates = logits.iter().enumerate().map(|(i, &l)| (l, i as u32)).collect();
        let weight = |l: f32| f64::from(l).exp();
        let count = sampler.shorten(weight);
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let total: f64 = sorted.iter().map(|&l| weight(l)).sum();
        let mut sum = 0.0;
        let want = 1 + sorted
            .iter()
            .take_while(|&&l| {
                sum += weight(l);
                sum < 0.9 * total
            })
            .count();
        assert_eq!(count, want);
        assert!(count > 64, "more than the first stretch");
        assert!(sampler.candidates[..count].iter().zip(&sorted).all(|(c, l)| c.0 == *l));
    }

    #[test]
    fn seed_and_prompt_decide_and_nothing_else() {
        let draw = |seed, prompt: &[u32]| {
            let mut sampler = Sampling { seed, ..Sampling::default() }.start(prompt);
            (0..40).map(|_| sampler.choose(&logits())).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, &[4, 5]), draw(1, &[4, 5]));
        assert_ne!(draw(1, &[4, 5]), draw(2, &[4, 5]));
        assert_ne!(draw(1, &[4, 5]), draw(1, &[5, 4]));
        let mut sampler = Sampling::default().start(&[]);
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]), 1);
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 3]), 0);
    }

    #[test]
    fn settings_that_say_nothing_are_refused() {
        let plain = Sampling::default();
        for bad in [
            Sampling { temperature: 0.0, ..plain },
            Sampling { temperature: f32::NAN, ..plain },
            Sampling { top_p: 0.0, ..plain },
            Sampling { top_p: 1.1, ..plain },
            Sampling { min_p: -0.1, ..plain },
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), Kind::Usage);
        }
        let settings = Sampling { temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.05, seed: 3 };
        assert_eq!(settings.check().unwrap().name(), "temperature=0.7,top_k=40,top_p=0.9,min_p=0.05,seed=3");
    }
}
