//! Paths of KIP-821: names between dots, in backticks where they hold dots.

/// # Errors
/// Where a backtick has no other.
pub(super) fn parse(path: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let behind = match rest.strip_prefix('`') {
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                steps.push(rest[..end].to_owned());
                &rest[end..]
            }
            Some(quoted) => {
                let (step, behind) = until_backtick(quoted)
                    .ok_or_else(|| format!("has a backtick without another in {path:?}"))?;
                steps.push(step);
                behind
            }
        };
        rest = match behind.strip_prefix('.') {
            Some("") => {
                steps.push(String::new());
                ""
            }
            Some(next) => next,
            None => behind,
        };
    }
    Ok(steps)
}

/// A name up to a backtick that ends the path or stands before a dot; a backslash before such a backtick makes it part of
/// the name. What is behind begins with the dot.
fn until_backtick(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut begin = 0;
    let mut from = 0;
    loop {
        let at = from + text[from..].find('`')?;
        let is_escaped = text[..at].ends_with('\\');
        let behind = &text[at + 1..];
        if behind.is_empty() || behind.starts_with('.') {
            if !is_escaped {
                name.push_str(&text[begin..at]);
                return Some((name, behind));
            }
            name.push_str(&text[begin..at - 1]);
            name.push('`');
            begin = at + 1;
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn paths_are_names_between_dots() {
        for (path, steps) in [
            ("a", vec!["a"]),
            ("a.b", vec!["a", "b"]),
            ("a.", vec!["a", ""]),
            ("`a.b`.c", vec!["a.b", "c"]),
            ("`a\\`.b`", vec!["a`.b"]),
            ("`a`b`", vec!["a`b"]),
        ] {
            assert_eq!(
                parse(path),
                Ok(steps.into_iter().map(str::to_owned).collect()),
                "{path}"
            );
        }
        assert!(parse("`a").is_err());
        assert!(parse("a.`b").is_err());
    }
}
