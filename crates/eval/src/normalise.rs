//! Named normalisations of text, applied to both sides before a comparison. A check states which it uses, so that
//! "right" can be read off the task file; each leaves its own output unchanged (tested on random text).

use crate::dates;
use crate::numbers::numbers;
use serde::{Deserialize, Serialize};

/// One named normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// `case`: letters become lower case by the rules of Unicode, whatever the language.
    Case,
    /// `whitespace`: every run of Unicode white space becomes one space; none at the ends.
    Whitespace,
    /// `punctuation_spacing`: white space before and after punctuation is dropped, so that `NO. 5 , X` equals `NO.5,X`.
    /// The punctuation itself stays. See [`is_punctuation`].
    PunctuationSpacing,
    /// `punctuation`: punctuation is dropped, and the white space around it becomes one space.
    Punctuation,
    /// `number`: a text with exactly one number becomes that number in its shortest form, whatever stands around it: `RM
    /// 5.00` becomes `5`. Any other text stays. See [`crate::numbers`].
    Number,
    /// `date`: a text that is a date becomes `YYYY-MM-DD`; any other stays. See [`crate::dates`].
    Date,
}

impl Normalisation {
    /// Applies this normalisation.
    pub fn apply(self, text: &str) -> String {
        match self {
            Normalisation::Case => text.to_lowercase(),
            Normalisation::Whitespace => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Normalisation::PunctuationSpacing => drop_spaces_at_punctuation(text),
            Normalisation::Punctuation => {
                let kept = |c: char| if is_punctuation(c) { ' ' } else { c };
                Normalisation::Whitespace.apply(&text.chars().map(kept).collect::<String>())
            }
            Normalisation::Number => only_number(text).unwrap_or_else(|| text.to_owned()),
            Normalisation::Date => dates::iso(text).unwrap_or_else(|| text.to_owned()),
        }
    }
}

/// Applies `normalisations` in the order given.
pub fn normalise(text: &str, normalisations: &[Normalisation]) -> String {
    normalisations.iter().fold(text.to_owned(), |text, normalisation| normalisation.apply(&text))
}

/// What counts as punctuation: the 32 ASCII characters of Python's `string.punctuation`, and the general, Chinese and
/// full-width punctuation of Unicode. Accents and signs of Indic scripts, which belong to letters, do not.
pub fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation()
        || matches!(character,
            '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}'
            | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
            | '\u{3014}'..='\u{301f}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}'
            | '\u{ff5b}'..='\u{ff65}')
}

fn only_number(text: &str) -> Option<String> {
    let mut found = numbers(text);
    let number = found.next()?;
    // -0 is 0.
    found.next().is_none().then(|| (number + 0.0).to_string())
}

fn drop_spaces_at_punctuation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut pending = String::new();
    let mut after_punctuation = false;
    for character in text.chars() {
        if character.is_whitespace() {
            pending.push(character);
            continue;
        }
        let punctuation = is_punctuation(character);
        if !punctuation && !after_punctuation {
            out.push_str(&pending);
        }
        pending.clear();
        out.push(character);
        after_punctuation = punctuation;
    }
    if !after_punctuation {
        out.push_str(&pending);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Normalisation::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_does_what_its_name_says() {
        assert_eq!(Case.apply("NO. 5 ÄÖ İ"), "no. 5 äö i\u{307}");
        assert_eq!(Whitespace.apply(" a\r\n\u{a0} b\t"), "a b");
        assert_eq!(PunctuationSpacing.apply("NO. 5 , JALAN  X ( M ) - Y"), "NO.5,JALAN  X(M)-Y");
        assert_eq!(PunctuationSpacing.apply(" a . "), " a.");
        assert_eq!(PunctuationSpacing.apply("a b"), "a b");
        assert_eq!(PunctuationSpacing.apply("क ि"), "क ि", "a vowel sign is no punctuation");
    }

    #[test]
    fn together_they_forgive_spacing_and_case_and_nothing_else() {
        let all = [Case, Whitespace, PunctuationSpacing];
        assert_eq!(
            normalise("LOT 3, Jalan\nPelabur 23 / 1", &all),
            normalise("lot 3,JALAN PELABUR 23/1 ", &all)
        );
        assert_ne!(normalise("JALANPUDU", &all), normalise("JALAN PUDU", &all));
        assert_ne!(normalise("12.00", &all), normalise("12,00", &all));
        assert_eq!(normalise("A b", &[]), "A b");
    }

    #[test]
    fn names_in_task_files_are_stable() {
        let names = serde_json::to_string(&[Case, Whitespace, PunctuationSpacing]).unwrap();
        assert_eq!(names, r#"["case","whitespace","punctuation_spacing"]"#);
    }

    #[test]
    fn numbers_and_dates_get_one_form() {
        for (text, number) in
            [("RM 5.00", "5"), ("1,250.50", "1250.5"), ("-0", "0"), ("5 of 6", "5 of 6"), ("", "")]
        {
            assert_eq!(Number.apply(text), number);
        }
        assert_eq!(Date.apply("25/12/2018"), "2018-12-25");
        assert_eq!(Date.apply("soon"), "soon");
        assert_eq!(Punctuation.apply("a-b, (c) d's"), "a b c d s");
    }

    fn any_list() -> impl Strategy<Value = Vec<Normalisation>> {
        proptest::collection::vec(prop_oneof![Just(Case), Just(Whitespace), Just(PunctuationSpacing)], 0..4)
    }

    proptest! {
        #[test]
        fn each_leaves_its_own_output_unchanged(text in "[a-z0-9 .,;:/e$-]{0,24}|\\PC{0,40}") {
            for one in [Punctuation, Number, Date] {
                let once = one.apply(&text);
                prop_assert_eq!(one.apply(&once), once);
            }
        }

        #[test]
        fn applying_twice_changes_nothing(text in "[a-zA-ZΣςİ .,;(\u{a0}\u{301}\n-]{0,40}|\\PC{0,40}", list in any_list()) {
            let once = normalise(&text, &list);
            prop_assert_eq!(normalise(&once, &list), once);
        }
    }
}
