//! Where the keys of a JSON object stand, which `serde_json` does not tell.

/// A key of the outermost object, or of the object under one of its keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyAt {
    /// `name`, or `config/name`.
    pub(super) path: String,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// The keys of the first two levels of `text`, in the order they stand. For text that `serde_json` has accepted;
/// of any other text the answer is of no use, but it is an answer.
pub(super) fn keys(text: &str) -> Vec<KeyAt> {
    let mut keys = Vec::new();
    let (mut depth, mut line) = (0usize, 1);
    let mut parent = String::new();
    let mut last: Option<(String, usize)> = None;
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '\n' => line += 1,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '"' => {
                let mut escaped = false;
                let end = rest.find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                let quoted = &text[at..end.map_or(text.len(), |(end, _)| end + 1)];
                last = serde_json::from_str(quoted).ok().map(|key| (key, line));
            }
            ':' => {
                if let Some((key, line)) = last.take() {
                    match depth {
                        1 => {
                            parent = key.clone();
                            keys.push(KeyAt { path: key, line });
                        }
                        2 => keys.push(KeyAt {
                            path: format!("{parent}/{key}"),
                            line,
                        }),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_their_lines() {
        let text =
            "{\n \"name\": \"a:b\",\n \"config\": {\n  \"x\\\"y\": [1, \"z\"],\n\n  \"d\": {\"e\": 1}\n } }";
        let found: Vec<_> = keys(text).into_iter().map(|key| (key.path, key.line)).collect();
        let expected = [("name", 2), ("config", 3), ("config/x\"y", 4), ("config/d", 6)];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn other_text_does_no_harm() {
        for text in ["", "\"", "{\"a", "}}}:", "{\"\\", ":::\"\":"] {
            keys(text);
        }
    }
}
