//! Rust source as far as the checks need it: comments and the insides of literals blanked out, and which lines are
//! tests. It is no parser; what the compiler and clippy can check is left to them.

/// `text` with comments and the insides of string and character literals replaced by blanks. Lines stay where they are.
pub fn code_only(text: &str) -> String {
    blanked(text, true)
}

/// `text` with comments alone replaced by blanks; characters stay where they are in [`code_only`].
pub fn without_comments(text: &str) -> String {
    blanked(text, false)
}

fn blanked(text: &str, literals: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if !follows_name(&chars, at) => raw_string_end(&chars, at).unwrap_or(at),
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else if !literals && chars[at] != '/' {
            code.extend(&chars[at..end]);
            at = end;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Whether the character before `at` belongs to a name; the `b` and `c` of `br"…"` and `cr"…"` do not count.
fn follows_name(chars: &[char], at: usize) -> bool {
    let name = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    match at.checked_sub(1) {
        None => false,
        Some(before) if matches!(chars[before], 'b' | 'c') => before > 0 && name(before - 1),
        Some(before) => name(before),
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let start = at + 1 + hashes;
    if chars.get(start) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    let end = (start + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes);
    Some(end)
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars.get(at + 3..)?.iter().position(|c| *c == '\'')?;
        return Some(at + 3 + close + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// For every line of `code` (from [`code_only`]) whether it belongs to an item under `#[cfg(test)]`.
pub fn test_lines(code: &str) -> Vec<bool> {
    let mut tests = vec![false; code.lines().count()];
    let mark = "#[cfg(test)]";
    let mut from = 0;
    while let Some(found) = code[from..].find(mark) {
        let start = from + found;
        let end = item_end(code, start + mark.len());
        let first = code[..start].matches('\n').count();
        let last = code[..end].matches('\n').count();
        tests[first..=last.min(code.lines().count() - 1)].fill(true);
        from = end;
    }
    tests
}

/// Where the item that starts after `from` ends: at its `;`, or at the brace that closes its first one.
fn item_end(code: &str, from: usize) -> usize {
    let (mut braces, mut brackets) = (0i32, 0i32);
    for (i, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces == 0 {
                    return i + 1;
                }
            }
            b';' if braces == 0 && brackets == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether `code` holds `word` at a place where no name goes on before it.
pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(i, _)| {
        let before = code[..i].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_kept() {
        let text = "a // x\n\"x \\\" x\" b /* x /* x */ x\n*/ c 'x' '\\'' r#\"x \" x\"# d<'e> br\"x\" for\n'\\u{1F}' f";
        let code = code_only(text);
        assert!(!code.contains('x') && !code.contains("1F"), "{code}");
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "d<'e>", "b", "for", "f"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn test_items_are_found_to_their_end() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\n#[path = 1]\nmod d;\nfn e() {}\n";
        let expected = [false, true, true, true, true, false, true, true, true, false];
        assert_eq!(test_lines(code), expected);
    }

    #[test]
    fn a_word_is_not_the_end_of_a_longer_one() {
        assert!(has_word("a; print!(b)", "print!"));
        assert!(!has_word("eprint!(b)", "print!"));
    }
}
