//! Dates in one form, for comparisons. Understood are, with `-`, `/`, `.` or spaces and commas between the parts: year,
//! month, day; day, month, year (where only the other order gives a date: month, day, year); names of months in
//! English. A year of two digits is 2000 to 2069 or 1970 to 1999. Anything else, a time included, is no date.

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// `text` as `YYYY-MM-DD`, if it is a date by the rule of the module.
pub fn iso(text: &str) -> Option<String> {
    let parts: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, '-' | '/' | '.' | ','))
        .filter(|part| !part.is_empty())
        .collect();
    let [a, b, c] = parts[..] else { return None };
    let (year, month, day) = match (month_name(a), month_name(b)) {
        (Some(month), _) => (year(c)?, month, number(b)?),
        (_, Some(month)) if a.len() == 4 => (year(a)?, month, number(c)?),
        (_, Some(month)) => (year(c)?, month, number(a)?),
        _ if a.len() == 4 => (year(a)?, number(b)?, number(c)?),
        _ => match (number(a)?, number(b)?) {
            (month, day) if day > 12 => (year(c)?, month, day),
            (day, month) => (year(c)?, month, day),
        },
    };
    let days = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// The month that `text` names by three letters or more (a fourth of `sept`, a full stop and so on aside).
fn month_name(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    if text.len() < 3 {
        return None;
    }
    (1..).zip(MONTHS).find(|(_, name)| name.starts_with(&text)).map(|(month, _)| month)
}

/// One or two digits; `st`, `nd`, `rd`, `th` may follow.
fn number(text: &str) -> Option<u32> {
    let bare = ["st", "nd", "rd", "th"].iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text);
    if bare.len() > 2 || !bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    bare.parse().ok()
}

fn year(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match (text.len(), text.parse::<u32>().ok()?) {
        (4, year) => Some(year),
        (2, year) => Some(if year < 70 { 2000 + year } else { 1900 + year }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_by_the_rule() {
        for text in [
            "2018-12-25",
            "25/12/2018",
            "25.12.18",
            "12/25/2018",
            "25 Dec 2018",
            "Dec 25, 2018",
            "25-DEC-18",
            "December 25th 2018",
            "2018 Dec 25",
            " 25 / 12 / 2018 ",
        ] {
            assert_eq!(iso(text).as_deref(), Some("2018-12-25"), "{text}");
        }
        assert_eq!(iso("3/4/99").as_deref(), Some("1999-04-03"), "the day first");
        assert_eq!(iso("29/2/2020").as_deref(), Some("2020-02-29"));
        for text in [
            "",
            "2018",
            "29/2/2019",
            "31/4/2020",
            "13/13/2018",
            "0/1/2018",
            "1/2/3",
            "25/12/2018 10:00",
            "ma 1 2018",
            "é/1/2018",
            "1/é/20",
        ] {
            assert_eq!(iso(text), None, "{text}");
        }
    }
}
