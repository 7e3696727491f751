//! JSON as people write cases: what fits on a line stands on one, all else is broken member by member.

use serde_json::Value;

/// How long a line is at most, in characters.
const WIDTH: usize = 120;

/// Without a line break at the end. The outermost value is always broken.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, true, 0, &mut out);
    out
}

/// `taken` is what stands on the line already, and what follows the value.
fn write(value: &Value, depth: usize, is_broken: bool, taken: usize, out: &mut String) {
    let flat = flat(value);
    if !is_broken && 2 * depth + taken + flat.chars().count() <= WIDTH {
        out.push_str(&flat);
        return;
    }
    let mut list = |marks: [char; 2], members: Vec<(Option<&String>, &Value)>| {
        out.push(marks[0]);
        for (number, (name, value)) in members.iter().enumerate() {
            let name = name.map_or(String::new(), |name| format!("{}: ", Value::from(name.as_str())));
            out.push_str(if number == 0 { "\n" } else { ",\n" });
            out.push_str(&"  ".repeat(depth + 1));
            out.push_str(&name);
            write(value, depth + 1, false, name.chars().count() + 1, out);
        }
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
        out.push(marks[1]);
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            list(
                ['{', '}'],
                object.iter().map(|(name, value)| (Some(name), value)).collect(),
            );
        }
        Value::Array(array) if !array.is_empty() => {
            list(['[', ']'], array.iter().map(|value| (None, value)).collect());
        }
        _ => out.push_str(&flat),
    }
}

/// On one line, with blanks.
fn flat(value: &Value) -> String {
    match value {
        Value::Object(object) if !object.is_empty() => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), flat(value));
            format!(
                "{{ {} }}",
                object.iter().map(member).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Array(array) => format!("[{}]", array.iter().map(flat).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_does_not_fit_is_broken() {
        let long = "x".repeat(70);
        let value = json!({
            "about": "a case", "settings": {}, "messages": [{ "value": "a", "outcome": "keep" }, [long, long], []],
        });
        let expected = format!(
            r#"{{
  "about": "a case",
  "settings": {{}},
  "messages": [
    {{ "value": "a", "outcome": "keep" }},
    [
      "{long}",
      "{long}"
    ],
    []
  ]
}}"#
        );
        let shown = text(&value);
        assert_eq!(shown, expected);
        assert_eq!(serde_json::from_str::<Value>(&shown).ok(), Some(value));
    }
}
