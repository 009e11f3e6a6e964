//! `${NAME}` and `${NAME:-default}` in configuration values.

/// Looks a variable up; `None` when it is not set.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces variables in `text`; `$$` is one dollar, any other dollar stands for itself.
///
/// # Errors
/// A variable that is not set and has no default, or a `${` that is not closed. The text of an error never holds
/// a variable's value.
pub(crate) fn expand(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some(end) = tail.find('}') else {
                return Err("`${` is not closed by `}` (write `$$` for a dollar sign)".into());
            };
            out.push_str(&variable(&tail[..end], environment)?);
            rest = &tail[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, environment: Environment<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        // What stands there is not repeated: it may be a piece of a secret.
        return Err(
            "between `${` and `}` stands the name of a variable: letters, digits and `_` (write `$$` for a \
                    dollar sign)"
                .into(),
        );
    }
    // As in a shell, `:-` also replaces a variable that is set and empty.
    match (environment(name).filter(|value| default.is_none() || !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set; set it, or give a default as `${{{name}:-value}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::expand;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("pyroscope".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes_are_replaced() {
        let cases = [
            ("http://${HOST}:4040", "http://pyroscope:4040"),
            ("${NONE:-fallback}", "fallback"),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("$${HOST}", "${HOST}"),
            ("pa$word$", "pa$word$"),
            ("${NONE:-}", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_an_error_that_names_it() {
        let error = expand("${NONE}", &environment).expect_err("not set");
        assert!(error.contains("`NONE` is not set"), "{error}");
        assert!(expand("${HOST", &environment).expect_err("open").contains("not closed"));
        assert!(expand("${1A}", &environment).expect_err("name").contains("the name of a variable"));
    }
}
