//! `underdog plan`: how many rows a difference takes, the smallest difference that given rows show, or the chance to see
//! one. The arithmetic is `eval`'s; this file resolves what was typed and says what was assumed.

use crate::arguments::PlanArguments;
use crate::output::Output;
use crate::verbs::compare::record_files;
use underdog_eval::compare::{self, Entry};
use underdog_eval::statistics::Unit;
use underdog_eval::statistics::power::{Design, Plan};
use underdog_eval::{Error, Evaluation, Kind, Result};

/// What is assumed of two models on the same rows where nothing is said: they tend to fail on the same ones.
const CORRELATION: f64 = 0.5;

/// Runs the verb.
pub fn run(arguments: &PlanArguments, output: &Output) -> Result<()> {
    let (design, seen) = design(arguments, output)?;
    let difference = arguments.difference.or(seen.filter(|_| arguments.rows.is_none()));
    let plan = match (difference, arguments.rows) {
        (Some(difference), None) => design.rows(difference, arguments.power)?,
        (None, Some(rows)) => design.smallest(rows, arguments.power)?,
        (Some(difference), Some(rows)) => {
            let plan = design.rows(difference, arguments.power)?;
            Plan { rows, power: design.power(difference, rows)?, ..plan }
        }
        (None, None) => {
            return Err(Error::new(Kind::Usage, "nothing to plan for")
                .expected("--difference, --rows, or two records with --from")
                .hint("underdog plan --accuracy 0.8 --difference 0.05"));
        }
    };
    output.result(&plan, || text(&plan))
}

/// What was said about the two models, and the difference that the records show, where there are any.
fn design(arguments: &PlanArguments, output: &Output) -> Result<(Design, Option<f64>)> {
    if !arguments.from.is_empty() {
        let files = record_files(&arguments.from)?;
        let read = files.iter().map(|file| Evaluation::from_record(file)).collect::<Result<Vec<_>>>()?;
        let [baseline, candidate] = read.as_slice() else {
            return Err(Error::new(Kind::Usage, "--from")
                .expected("two records")
                .found(read.len().to_string()));
        };
        let entry = |evaluation| Entry { name: "", evaluation };
        let seen = compare::design(entry(baseline), entry(candidate))?;
        if let Some(size) = seen.group_size {
            output.say(&format!("planned for rows in groups of {size:.1} on average, as in the records"));
        }
        return Ok((seen.design, Some(seen.difference)));
    }
    if let Some(discordance) = arguments.discordance {
        return Ok((Design::Discordance { discordance }, None));
    }
    let accuracy = arguments.accuracy.ok_or_else(|| {
        Error::new(Kind::Usage, "the accuracy of the baseline is not known")
            .expected("--accuracy, --discordance, or two records with --from")
    })?;
    let correlation = arguments.correlation.unwrap_or(CORRELATION);
    let design = match arguments.unpaired {
        true => Design::Unpaired { accuracy },
        false => Design::Correlation { accuracy, correlation },
    };
    Ok((design, None))
}

fn text(plan: &Plan) -> String {
    let Plan { rows, difference, power, .. } = plan;
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let assumed = match plan.design {
        Design::Correlation { accuracy, correlation } => {
            format!("a baseline at {} and a correlation of {correlation}", share(accuracy))
        }
        Design::Discordance { discordance } => {
            format!("{} of the rows right for one of both only", share(discordance))
        }
        Design::Graded { variance, .. } => {
            format!("differences with a standard deviation of {:.3}", variance.sqrt())
        }
        Design::Unpaired { accuracy } => {
            format!("a baseline at {} and different rows for both", share(accuracy))
        }
    };
    let (each, paired) = match plan.design {
        Design::Unpaired { .. } => (" for each", "unpaired"),
        _ => ("", "paired"),
    };
    let unit = match plan.design {
        Design::Graded { unit, .. } => unit,
        _ => Unit::Share,
    };
    let chance = match *power {
        // Not certain, whatever it rounds to.
        power if power > 0.995 && power < 1.0 => "more than 99 %".to_owned(),
        power => format!("{:.0} %", 100.0 * power),
    };
    let differing = plan.discordance.map_or_else(String::new, |d| format!("; {} of them differ", share(d)));
    format!(
        "{rows} rows{each} show a difference of {}{} with a chance of {chance}\n\
         ({paired} test, two-sided at 5 %; assumed: {assumed}{differing})",
        unit.difference(*difference).trim_start_matches('+'),
        unit.points(),
    )
}
