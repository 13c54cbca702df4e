//! Cuts text into the pieces within which byte pairs may merge, as `tokenizer.ggml.pre` asks for.
//!
//! The patterns are written without look-ahead: the usual `\s+(?!\S)` becomes `\s+` and one step back, so that
//! matching takes linear time on any text and can never give up half-way.

use tokenizers::utils::SysRegex;
use underdog_eval::{Error, Kind, Result};

/// GPT-2's pieces. Contractions are lower case only.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
/// Llama 3's pieces: digits by three, line ends stay with what they end.
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
/// Qwen 2's pieces: as Llama 3's, with single digits.
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";

/// Punctuation and some symbols, the first of the patterns of `default`.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// A pre-tokenizer: patterns that are applied one after the other, each to the pieces that the last one left.
pub(super) struct Splitter {
    steps: Vec<Step>,
}

struct Step {
    pattern: SysRegex,
    spaces: Spaces,
}

/// What happens to a run of white space before other text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spaces {
    /// The pattern does not match white space.
    None,
    /// The last character goes to what follows.
    Step,
    /// The same, except for runs that end a line: they have a branch of their own in the pattern.
    StepWithinLine,
}

impl Splitter {
    /// The splitter that `tokenizer.ggml.pre` = `name` stands for.
    pub(super) fn named(name: &str) -> Result<Self> {
        let patterns: &[(&str, Spaces)] = match name {
            "smollm" => &[(r"\p{N}", Spaces::None), (GPT2, Spaces::Step)],
            "gpt-2" => &[(GPT2, Spaces::Step)],
            "default" => &[
                (PUNCTUATION, Spaces::None),
                (GPT2, Spaces::Step),
                (r"\p{N}+", Spaces::None),
                ("[0-9][0-9][0-9]", Spaces::None),
            ],
            "llama-bpe" => &[(LLAMA3, Spaces::StepWithinLine)],
            "qwen2" => &[(QWEN2, Spaces::StepWithinLine)],
            other => {
                return Err(Error::new(Kind::Model, "the pre-tokenizer of the model file is not known")
                    .expected("default, gpt-2, llama-bpe, qwen2 or smollm")
                    .found(other)
                    .at("tokenizer.ggml.pre")
                    .hint(
                        "use the Hugging Face directory of this model: its tokenizer.json says how to split",
                    ));
            }
        };
        let steps = patterns.iter().map(|&(text, spaces)| Ok(Step { pattern: compile(text)?, spaces }));
        Ok(Splitter { steps: steps.collect::<Result<_>>()? })
    }

    /// The pieces of `text` in order; together they are `text`.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = vec![text];
        for step in &self.steps {
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                step.split(piece, &mut finer);
            }
            pieces = finer;
        }
        pieces
    }
}

impl Step {
    /// Appends the matches in `text`, and what lies between them, to `pieces`.
    fn split<'t>(&self, text: &'t str, pieces: &mut Vec<&'t str>) {
        let mut from = 0;
        while from < text.len() {
            let rest = &text[from..];
            let (start, end) = self.pattern.find_iter(rest).next().unwrap_or((rest.len(), rest.len()));
            if start > 0 {
                pieces.push(&rest[..start]);
            }
            let end = start + self.kept(&rest[start..end], end == rest.len());
            if end > start {
                pieces.push(&rest[start..end]);
            }
            // No pattern here matches nothing; should one ever do so, a gap of one piece ends the loop.
            from += if end > 0 { end } else { rest.len() };
        }
    }

    /// How many bytes of a match stay with it.
    fn kept(&self, matched: &str, ends_text: bool) -> usize {
        let Some(last) = matched.chars().next_back() else { return 0 };
        let shortened = matched.len() - last.len_utf8();
        let whole = match self.spaces {
            Spaces::None => true,
            Spaces::StepWithinLine if matches!(last, '\r' | '\n') => true,
            Spaces::Step | Spaces::StepWithinLine => {
                ends_text || shortened == 0 || !matched.chars().all(char::is_whitespace)
            }
        };
        if whole { matched.len() } else { shortened }
    }
}

fn compile(pattern: &str) -> Result<SysRegex> {
    SysRegex::new(pattern).map_err(|error| {
        Error::new(Kind::System, "a pattern of the tokenizer does not compile")
            .found(error.to_string())
            .at(pattern)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        Splitter::named(name).unwrap().split(text)
    }

    #[test]
    fn smollm_cuts_out_single_digits_before_anything_else() {
        assert_eq!(pieces("smollm", "a 123  b"), ["a", " ", "1", "2", "3", " ", " b"]);
        assert_eq!(pieces("gpt-2", "a 123  b"), ["a", " 123", " ", " b"]);
    }

    #[test]
    fn white_space_before_a_word_leaves_its_last_character() {
        assert_eq!(pieces("gpt-2", "x \n\n y"), ["x", " \n\n", " y"]);
        assert_eq!(pieces("gpt-2", "x\n\ny"), ["x", "\n", "\n", "y"]);
        assert_eq!(pieces("gpt-2", "x  "), ["x", "  "]);
        assert_eq!(pieces("qwen2", "x\n\ny"), ["x", "\n\n", "y"]);
        assert_eq!(pieces("qwen2", "x  \n  y"), ["x", "  \n", " ", " y"]);
    }

    #[test]
    fn llama_takes_digits_by_three_and_contractions_in_any_case() {
        assert_eq!(pieces("llama-bpe", "I'LL 12345"), ["I", "'LL", " ", "123", "45"]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_says_it() {
        let error = Splitter::named("minbpe").err().unwrap();
        assert_eq!(error.facts().found.as_deref(), Some("minbpe"));
    }
}
