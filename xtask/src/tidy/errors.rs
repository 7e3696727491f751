//! Each error code has a page and each page a code.

use super::Files;
use regex::Regex;
use std::collections::BTreeSet;

const PAGES: &str = "docs/errors/";

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
        .filter(|(page, text)| !text.starts_with(&format!("# {page}")));
    without_page
        .map(|code| format!("{code} has no page: write {PAGES}{code}.md"))
        .chain(without_use.map(|(page, _)| format!("{PAGES}{page}.md: no source uses this code")))
        .chain(untitled.map(|(page, _)| format!("{PAGES}{page}.md: must begin with `# {page}`")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_pages_match() {
        let source = ("gateway/src/link/mod.rs", "CULVERT-L001 CULVERT-L002");
        let page = ("docs/errors/CULVERT-L001.md", "# CULVERT-L001: no link");
        let lonely = ("docs/errors/CULVERT-L009.md", "# CULVERT-L009: gone");
        let untitled = ("docs/errors/CULVERT-L002.md", "No title");
        let check = super::super::check;
        check(faults, &[source, page], &["CULVERT-L002 has no page"]);
        check(
            faults,
            &[source, page, untitled],
            &["must begin with `# CULVERT-L002`"],
        );
        check(
            faults,
            &[source, page, lonely],
            &["L002 has no page", "L009.md: no source uses"],
        );
    }
}
