//! Each error code has a page and each page a code; a page says what a person needs, and the list of all names it.

use super::Files;
use regex::Regex;
use std::collections::BTreeSet;

const PAGES: &str = "docs/errors/";

/// The list of all pages.
const LIST: &str = "docs/errors/README.md";

/// What each page says, in this order.
const PARTS: [&str; 4] = [
    "**What it means.**",
    "**Why it happens.**",
    "**What to do.**",
    "**Example.**",
];

pub(super) fn faults(files: &Files) -> Vec<String> {
    let pattern = Regex::new(r"CULVERT-[A-Z][0-9]{3}").expect("a constant pattern");
    let used: BTreeSet<&str> = files
        .under("gateway/", ".rs")
        .flat_map(|(_, text)| pattern.find_iter(text).map(|code| code.as_str()))
        .collect();
    let pages: Vec<(&str, &str)> = files
        .under(PAGES, ".md")
        .filter_map(|(path, text)| {
            let code = path.strip_prefix(PAGES)?.strip_suffix(".md")?;
            code.starts_with("CULVERT-").then_some((code, text))
        })
        .collect();
    let without_page = used
        .iter()
        .filter(|code| pages.iter().all(|(page, _)| page != *code));
    let without_use = pages.iter().filter(|(page, _)| !used.contains(page));
    let untitled = pages
        .iter()
        .filter(|(page, text)| !text.starts_with(&format!("# {page}: ")));
    let list = files
        .under(LIST, "")
        .map(|(_, text)| text)
        .next()
        .unwrap_or_default();
    without_page
        .map(|code| format!("{code} has no page: write {PAGES}{code}.md"))
        .chain(without_use.map(|(page, _)| format!("{PAGES}{page}.md: no source uses this code")))
        .chain(untitled.map(|(page, _)| format!("{PAGES}{page}.md: must begin with `# {page}: `")))
        .chain(
            pages
                .iter()
                .filter_map(|(page, text)| incomplete(page, text).or_else(|| unlisted(list, page, text))),
        )
        .collect()
}

fn incomplete(page: &str, text: &str) -> Option<String> {
    let mut rest = text;
    for part in PARTS {
        let Some(at) = rest.find(part) else {
            return Some(format!(
                "{PAGES}{page}.md: lacks `{part}` behind what comes before it"
            ));
        };
        rest = &rest[at..];
    }
    (!rest.contains(page)).then(|| format!("{PAGES}{page}.md: its example must show {page}"))
}

/// Title and list agree, so that the list can be searched for what a person remembers.
fn unlisted(list: &str, page: &str, text: &str) -> Option<String> {
    let title = text.lines().next()?.split_once(": ")?.1;
    let row = format!("| [{page}]({page}.md) | {title} |");
    (!list.lines().any(|line| line == row)).then(|| format!("{LIST}: lacks `{row}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
# CULVERT-L001: no link

**What it means.** **Why it happens.** **What to do.** **Example.** [CULVERT-L001] it is not there
";

    /// A source that uses two codes, a page for one of them, and the list.
    fn check(page: &str, list: &str, expected: &[&str]) {
        let files = [
            ("gateway/src/link/mod.rs", "CULVERT-L001"),
            ("docs/errors/CULVERT-L001.md", page),
            (LIST, list),
        ];
        super::super::check(faults, &files, expected);
    }

    const LISTED: &str = "| [CULVERT-L001](CULVERT-L001.md) | no link |\n";

    #[test]
    fn codes_and_pages_match() {
        let source = ("gateway/src/link/mod.rs", "CULVERT-L001 CULVERT-L002");
        let page = ("docs/errors/CULVERT-L001.md", WHOLE);
        let list = (LIST, LISTED);
        super::super::check(faults, &[source, page, list], &["CULVERT-L002 has no page"]);
        let unused = ("gateway/src/link/mod.rs", "no code");
        super::super::check(faults, &[unused, page, list], &["L001.md: no source uses"]);
    }

    #[test]
    fn a_page_says_what_a_person_needs() {
        check(WHOLE, LISTED, &[]);
        let cut = WHOLE.replace("**What to do.**", "");
        check(&cut, LISTED, &["lacks `**What to do.**`"]);
        let other = WHOLE.replace("[CULVERT-L001]", "[CULVERT-L009]");
        check(&other, LISTED, &["its example must show CULVERT-L001"]);
        let untitled = WHOLE.replace("# CULVERT-L001: ", "# ");
        check(&untitled, LISTED, &["must begin with `# CULVERT-L001: `"]);
    }

    #[test]
    fn the_list_names_each_page_by_its_title() {
        let other = LISTED.replace("no link", "a link");
        check(
            WHOLE,
            &other,
            &["README.md: lacks `| [CULVERT-L001](CULVERT-L001.md) | no link |`"],
        );
    }
}
