//! Numbers in a text, for checks that compare them. One rule for all: an optional sign that nothing of a word touches;
//! digits, with commas only as separators of thousands (`1,234,567`); an optional part after a point; an optional
//! exponent. So `1,5` is 1 and 5, and `5-6` is 5 and 6. Other digits than 0 to 9 are none.

/// The numbers of `text` from left to right; what is too large for a finite `f64` is left out.
pub fn numbers(text: &str) -> impl Iterator<Item = f64> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let starts = bytes[at].is_ascii_digit()
                || (bytes[at] == b'.'
                    && digit(bytes, at + 1)
                    && (at == 0 || !bytes[at - 1].is_ascii_digit()));
            if !starts {
                at += 1;
                continue;
            }
            let (start, end) = (at, end_of_number(bytes, at));
            at = end;
            let magnitude: f64 = text[start..end].replace(',', "").parse().unwrap_or(f64::INFINITY);
            if magnitude.is_finite() {
                return Some(if is_negative(&text[..start]) { -magnitude } else { magnitude });
            }
        }
        None
    })
}

fn digit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_digit)
}

fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while digit(bytes, at) {
        at += 1;
    }
    at
}

/// The end of the number that starts at `start`, its sign apart.
fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let mut at = skip_digits(bytes, start);
    if (1..=3).contains(&(at - start)) {
        while bytes.get(at) == Some(&b',') && skip_digits(bytes, at + 1) == at + 4 {
            at += 4;
        }
    }
    if bytes.get(at) == Some(&b'.') && digit(bytes, at + 1) {
        at = skip_digits(bytes, at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let digits = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = skip_digits(bytes, digits);
        if end > digits && !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
            at = end;
        }
    }
    at
}

/// Whether the text before a number ends with a minus that belongs to the number.
fn is_negative(before: &str) -> bool {
    let mut characters = before.chars().rev();
    // A currency sign may stand between them: -$5.
    let mut sign = characters.next();
    if matches!(sign, Some('$' | '€' | '£' | '¥')) {
        sign = characters.next();
    }
    matches!(sign, Some('-' | '−')) && !characters.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_the_rule() {
        for (text, found) in [
            ("", vec![]),
            ("none, . - e5", vec![5.0]),
            ("It is 1,234,567.50 or .5", vec![1234567.5, 0.5]),
            ("1,5 and 12,3456", vec![1.0, 5.0, 12.0, 3456.0]),
            ("1234,567", vec![1234.0, 567.0]),
            ("-3, −4, +5, -$6", vec![-3.0, -4.0, 5.0, -6.0]),
            ("5-6, A-7", vec![5.0, 6.0, 7.0]),
            ("2e3 2E-1 2em 5e", vec![2000.0, 0.2, 2.0, 5.0]),
            ("RM5.00 15kg 50%", vec![5.0, 15.0, 50.0]),
            ("The end: 7.", vec![7.0]),
            ("1e999 3", vec![3.0]),
            ("٣ ½ é4", vec![4.0]),
        ] {
            assert_eq!(numbers(text).collect::<Vec<_>>(), found, "{text}");
        }
    }
}
