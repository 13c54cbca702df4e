//! Words in a text, for several checks: where one stands alone, and how many there are.

/// A letter, a digit or an underscore.
pub(super) fn in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether `wanted` stands in `text` with no letter, digit or underscore right before or after it. An end of `wanted`
/// that is no such character itself (`C++`, `$5`) may touch anything. Nothing wanted is found nowhere.
pub(super) fn stands_alone(text: &str, wanted: &str) -> bool {
    let (Some(first), Some(last)) = (wanted.chars().next(), wanted.chars().next_back()) else {
        return false;
    };
    let mut from = 0;
    while let Some(offset) = text[from..].find(wanted) {
        let (start, end) = (from + offset, from + offset + wanted.len());
        let before = in_word(first) && text[..start].chars().next_back().is_some_and(in_word);
        let after = in_word(last) && text[end..].chars().next().is_some_and(in_word);
        if !before && !after {
            return true;
        }
        from = start + first.len_utf8();
    }
    false
}

/// Runs of characters between white space.
pub(super) fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Stretches that end in `.`, `!`, `?`, `…`, `。`, `！` or `？` (several in a row end one) before white space or the end,
/// each with a letter or digit in it; what is left after the last of them is one more. An abbreviation ends one, too.
pub(super) fn count_sentences(text: &str) -> usize {
    let ends = |c: char| matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？');
    let closes = |c: char| matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»');
    let (mut count, mut inside, mut ended) = (0, false, false);
    for character in text.chars().chain([' ']) {
        if character.is_whitespace() && ended && inside {
            count += 1;
            inside = false;
        }
        if !closes(character) {
            // The ideographic stops need no white space after them.
            ended = ends(character);
        }
        if matches!(character, '。' | '！' | '？') && inside {
            count += 1;
            inside = false;
        }
        inside |= character.is_alphanumeric();
    }
    count + usize::from(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_alone_or_inside_another() {
        for (text, wanted) in [
            ("a cat.", "cat"),
            ("cat", "cat"),
            ("concat cat", "cat"),
            ("(c++)", "c++"),
            ("x$5", "$5"),
            ("ée é", "é"),
        ] {
            assert!(stands_alone(text, wanted), "{text} {wanted}");
        }
        for (text, wanted) in [("cats", "cat"), ("", "cat"), ("x", ""), ("éa", "é"), ("_cat", "cat")] {
            assert!(!stands_alone(text, wanted), "{text} {wanted}");
        }
    }

    #[test]
    fn sentences_end_before_white_space() {
        for (text, count) in [
            ("", 0),
            ("...", 0),
            ("One", 1),
            ("One. Two! Three?", 3),
            ("He said \"no.\" Then he left.", 2),
            ("Version 3.5 is out... Really?! Yes", 3),
            ("是。不是！", 2),
            ("a.b", 1),
        ] {
            assert_eq!(count_sentences(text), count, "{text}");
        }
        assert_eq!(count_words(" a  b\u{a0}c\n"), 3);
    }
}
