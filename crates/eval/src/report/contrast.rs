//! Numbers in the confusion matrix stay readable on the deepest colour: WCAG 2.1 asks for 4.5:1 of text of this size
//! (https://www.w3.org/TR/WCAG21/#contrast-minimum, relative luminance as defined there).

type Colour = [f64; 3];

/// The value of `--name` in the variables of a theme.
fn variable<'a>(theme: &'a str, name: &str) -> &'a str {
    let start = theme.split(&format!("--{name}: ")).nth(1).unwrap_or_else(|| panic!("--{name} is not set"));
    start.split(';').next().unwrap()
}

fn colour(theme: &str, name: &str) -> Colour {
    let digits = variable(theme, name).strip_prefix('#').unwrap();
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()) / 255.0)
}

fn luminance(colour: Colour) -> f64 {
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(a: Colour, b: Colour) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The ink on a cell of the matrix at full depth, where `share` of the colour is mixed into the paper.
fn on_cell(theme: &str, name: &str, share: f64) -> f64 {
    let (deep, paper) = (colour(theme, name), colour(theme, "paper"));
    let cell = [0, 1, 2].map(|part| share * deep[part] + (1.0 - share) * paper[part]);
    contrast(colour(theme, "ink"), cell)
}

#[test]
fn the_deepest_cells_of_the_matrix_can_be_read_in_every_theme() {
    assert!((contrast([1.0; 3], [0.0; 3]) - 21.0).abs() < 1e-9, "black on white, as the definition has it");
    // Light, dark as the system asks, dark as the switch asks.
    let themes: Vec<&str> = super::STYLE.split("--theme: ").skip(1).collect();
    assert_eq!(themes.len(), 3);
    let share = super::STYLE.split("var(--right) calc(var(--depth) * ").nth(1).unwrap().split(')').next();
    let hit: f64 = share.unwrap().parse().unwrap();
    for theme in themes {
        let miss: f64 = variable(theme, "miss").parse().unwrap();
        for (name, share) in [("right", hit), ("wrong", miss)] {
            let found = on_cell(theme, name, share);
            assert!(found >= 4.5, "{name} at {share} of {}: {found:.2}", variable(theme, "paper"));
        }
    }
}
