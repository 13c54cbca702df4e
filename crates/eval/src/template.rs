//! The system and user templates of a task: Jinja over `input`, `id` and `meta`, strict about what does not exist.
//! `expected` is not there on purpose. Chat templates, which turn messages into tokens, belong to the model.

use crate::sample::Sample;
use crate::{Error, Kind, Result};
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};

/// What a template can read.
const NAMES: [&str; 3] = ["input", "id", "meta"];

/// The compiled templates of one task.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    has_system: bool,
    reads_of_row: Option<&'static str>,
}

impl Templates {
    /// Compiles both templates; a system template that is absent or blank means no system message.
    ///
    /// # Errors
    /// At a syntax error, a name that no sample has, or a user template that reads nothing of the sample.
    pub fn new(system: Option<&str>, user: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_debug(true);
        let system = system.filter(|text| !text.trim().is_empty());
        let (mut reads_sample, mut reads_of_row) = (false, None);
        for (name, source) in [("system", system), ("user", Some(user))] {
            let Some(source) = source else { continue };
            environment
                .add_template_owned(name, source.to_owned())
                .map_err(|error| explain(&error, &format!("the {name} template is not valid")))?;
            let template =
                environment.get_template(name).map_err(|error| explain(&error, "no such template"))?;
            let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().collect();
            unknown.sort();
            reads_sample |= unknown.iter().any(|variable| NAMES.contains(&variable.as_str()));
            let of_row = ["id", "meta"].into_iter().find(|&name| unknown.iter().any(|v| v == name));
            reads_of_row = reads_of_row.or(of_row);
            // Functions of the template language count as undeclared too, and are known to the environment.
            unknown.retain(|v| {
                !NAMES.contains(&v.as_str()) && environment.globals().all(|(known, _)| known != v)
            });
            if let Some(variable) = unknown.first() {
                return Err(Error::new(
                    Kind::Data,
                    format!("the {name} template reads `{variable}`, which is undefined"),
                )
                .expected("`input`, `id` or `meta`")
                .at(format!("{name} template, line {}", line_of(source, variable))));
            }
        }
        if !reads_sample {
            return Err(Error::new(Kind::Data, "the templates read nothing of the sample")
                .expected("`{{ input }}` in the user template")
                .found("the same prompt for every sample"));
        }
        Ok(Templates { environment, has_system: system.is_some(), reads_of_row })
    }

    /// What the templates read that only a row of data has: `id` or `meta`; `None` where the input is enough.
    pub fn reads_of_row(&self) -> Option<&'static str> {
        self.reads_of_row
    }

    /// The system message for `sample`, if the task has one.
    ///
    /// # Errors
    /// When the template reads something this sample lacks; names the variable, the template line and the sample.
    pub fn system(&self, sample: &Sample) -> Result<Option<String>> {
        if self.has_system { self.render("system", sample).map(Some) } else { Ok(None) }
    }

    /// The user message for `sample`.
    ///
    /// # Errors
    /// As [`Templates::system`].
    pub fn user(&self, sample: &Sample) -> Result<String> {
        self.render("user", sample)
    }

    fn render(&self, name: &str, sample: &Sample) -> Result<String> {
        let context = context! {
            input => Value::from(Serde(&sample.input)),
            id => sample.id.clone(),
            meta => Value::from(Serde(&sample.meta)),
        };
        self.environment.get_template(name).and_then(|template| template.render(context)).map_err(|error| {
            let error = explain(&error, &format!("the {name} template cannot be filled"));
            let place = error.facts().place.clone().unwrap_or_default();
            error.at(format!("{place}, sample `{}` on line {}", sample.id, sample.line))
        })
    }
}

fn explain(error: &minijinja::Error, what: &str) -> Error {
    let detail = error.detail().unwrap_or("no detail").to_owned();
    let found = match (error.kind(), error.range(), error.template_source()) {
        (ErrorKind::UndefinedError, Some(range), Some(source)) => {
            let name =
                source.get(range).unwrap_or(&detail).trim_matches(|c: char| "{}-+ \n".contains(c)).to_owned();
            format!("`{name}`, which is undefined")
        }
        (kind, _, _) => format!("{kind}: {detail}"),
    };
    let name = error.name().unwrap_or("a");
    Error::new(Kind::Data, what)
        .found(found)
        .at(format!("{name} template, line {}", error.line().unwrap_or(1)))
}

fn line_of(source: &str, variable: &str) -> usize {
    source.lines().position(|line| line.contains(variable)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(input: serde_json::Value) -> Sample {
        let meta = json!({"tier": "gold"}).as_object().unwrap().clone();
        Sample { id: "r1".into(), input, expected: "secret".into(), meta, line: 9 }
    }

    #[test]
    fn text_passes_through_byte_for_byte() {
        let templates = Templates::new(Some("For {{ meta.tier }}:\n"), "{{ input }}").unwrap();
        let text = " <b>&amp; \"{{ id }}\"\r\n\u{0}é😀\n";
        assert_eq!(templates.user(&sample(text.into())).unwrap(), text);
        assert_eq!(templates.system(&sample("".into())).unwrap().unwrap(), "For gold:");
        assert_eq!(
            Templates::new(Some(" \n"), "{{ input }}").unwrap().system(&sample("".into())).unwrap(),
            None
        );
    }

    #[test]
    fn fields_of_the_input_can_be_read_and_looped_over() {
        let templates =
            Templates::new(None, "{{ input.q }}{% for x in range(2) %} {{ x }}{% endfor %}").unwrap();
        assert_eq!(templates.user(&sample(json!({"q": "why"}))).unwrap(), "why 0 1");
    }

    #[test]
    fn an_undefined_name_is_an_error_that_names_it_and_the_place() {
        let error = Templates::new(None, "{{ input }}\n{{ question }}").unwrap_err().to_string();
        assert!(error.contains("`question`") && error.contains("user template, line 2"), "{error}");
        let error = Templates::new(None, "{{ input }} {{ expected }}").unwrap_err().to_string();
        assert!(error.contains("`expected`"), "the answer is not there to be read: {error}");
        let templates = Templates::new(None, "{{ input }}\n\n{{ meta.colour }}").unwrap();
        let error = templates.user(&sample("x".into())).unwrap_err().to_string();
        for part in ["meta.colour", "user template, line 3", "sample `r1` on line 9"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn syntax_errors_and_constant_prompts_are_refused() {
        let error = Templates::new(None, "{{ input").unwrap_err().to_string();
        assert!(error.contains("user template is not valid"), "{error}");
        assert!(Templates::new(Some("Hello"), "Answer.").unwrap_err().to_string().contains("read nothing"));
    }
}
