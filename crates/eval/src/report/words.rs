//! Numbers as a person reads them.

/// `41 s`, `12 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") };
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// Digits in threes with narrow spaces that do not break.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn rate(rows_per_s: f64) -> String {
    if rows_per_s >= 100.0 { format!("{rows_per_s:.0} rows/s") } else { format!("{rows_per_s:.2} rows/s") }
}

pub(crate) fn memory(mib: f64) -> String {
    if mib >= 1024.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// Three digits at most, for axes and short labels: `0.24`, `35`, `1200`.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 10.0 || size == 0.0 => format!("{number:.0}"),
        size if size >= 1.0 => format!("{number:.1}").trim_end_matches(".0").to_owned(),
        size => {
            let digits = (1.0 - size.log10()).ceil().clamp(1.0, 9.0) as usize;
            format!("{number:.digits$}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// Megabytes of a thousand times a thousand bytes, as model files are sold.
pub(crate) fn megabytes(bytes: f64) -> String {
    let mb = bytes / 1e6;
    if mb >= 1000.0 { format!("{} GB", short(mb / 1000.0)) } else { format!("{} MB", short(mb)) }
}

/// A model reference without the folders that only this machine has: `smollm2+…/run-001/adapter`.
pub fn short_name(name: &str) -> String {
    let (reference, asked) = name.split_at(name.find('?').unwrap_or(name.len()));
    let start = ["nearest:", "linear:"].into_iter().find(|start| reference.starts_with(start)).unwrap_or("");
    let (base, adapter) = match reference[start.len()..].split_once('+') {
        Some((base, adapter)) => (base, Some(adapter)),
        None => (&reference[start.len()..], None),
    };
    let adapter = adapter.map_or_else(String::new, |adapter| format!("+{}", tail(adapter, 2)));
    format!("{start}{}{adapter}{asked}", tail(base, 1))
}

/// The last `count` parts of a path.
fn tail(path: &str, count: usize) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    match parts.len() > count {
        true => format!("…/{}", parts[parts.len() - count..].join("/")),
        false => path.to_owned(),
    }
}

/// The first digits of the hash that tells a candidate from its kin: the adapter's where there is one.
pub(crate) fn short_print(fingerprint: &str) -> String {
    let hash = fingerprint.split(' ').next().unwrap_or_default();
    hash.rsplit('+').next().unwrap_or_default().chars().take(8).collect()
}

/// The first `limit` characters, with a note where something was cut.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{} … ({more} more characters in the record)", &text[..end])
        }
    }
}

/// Control characters as their pictures: a browser would drop them, and what cannot be seen cannot be judged.
pub(crate) fn pictured(text: &str) -> String {
    let picture = |character| match character {
        '\n' | '\t' => character,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        other => other,
    };
    text.chars().map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_are_readable() {
        assert_eq!(
            (duration(3.08), duration(59.4), duration(725.0), duration(3725.0)),
            ("3.1 s".into(), "59 s".into(), "12 min 05 s".into(), "1 h 02 min".into())
        );
        assert_eq!((grouped(7), grouped(1_234_567)), ("7".into(), "1\u{202f}234\u{202f}567".into()));
        let shorts: Vec<String> = [0.0, 0.024, 0.5, 2.0, 2.5, 35.2, 1200.0].into_iter().map(short).collect();
        assert_eq!(shorts, ["0", "0.024", "0.5", "2", "2.5", "35", "1200"]);
        assert_eq!(short_name("smollm2"), "smollm2");
        assert_eq!(
            short_name("/data/x/m.gguf+runs/mail/run-001/adapter?shots=4"),
            "…/m.gguf+…/run-001/adapter?shots=4"
        );
        assert_eq!(short_name("linear:/data/x/bert"), "linear:…/bert");
        assert_eq!(short_print("0123456789ab+fedcba9876543210 bf16"), "fedcba98");
        assert_eq!((megabytes(98e6), megabytes(2.5e9)), ("98 MB".into(), "2.5 GB".into()));
    }
}
