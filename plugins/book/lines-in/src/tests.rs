use super::*;
use culvert_plugin::testing;

const LIMITS: Limits = Limits {
    messages: 2,
    bytes: 1 << 20,
    wait: Duration::ZERO,
};

fn open(resume: Vec<ResumePoint>) -> Result<LinesIn, Failure> {
    let settings = testing::settings([("file", "/in/a.txt"), ("topic", "lines")])?;
    LinesIn::open(settings, resume)
}

fn values(page: &Page) -> Vec<&[u8]> {
    let produced = page.messages.iter();
    produced
        .filter_map(|produced| produced.message.value.as_deref())
        .collect()
}

#[test]
fn lines_go_on_behind_the_resume_point() {
    let mut source = open(Vec::new()).expect("it opens");
    let page = source.poll(LIMITS).expect("a page");
    assert_eq!(
        page.idle_ms,
        Some(1_000),
        "there is no file yet, which heals by waiting"
    );
    testing::set_file("/in/a.txt", b"one\ntwo\nthree\nfou");
    let page = source.poll(LIMITS).expect("a page");
    assert_eq!(values(&page), [b"one", b"two"]);
    let mut source = open(page.resume_points).expect("it opens again");
    assert_eq!(values(&source.poll(LIMITS).expect("a page")), [b"three"]);
    assert!(values(&source.poll(LIMITS).expect("a page")).is_empty());
    testing::set_file("/in/a.txt", b"one\ntwo\nthree\nfour\n");
    assert_eq!(values(&source.poll(LIMITS).expect("a page")), [b"four"]);
}

#[test]
fn a_line_that_is_too_long_and_a_point_of_another_plugin_need_a_person() {
    testing::set_file("/in/a.txt", &[b'x'; LINE_MAX as usize + 1]);
    let mut source = open(Vec::new()).expect("it opens");
    assert!(matches!(source.poll(LIMITS), Err(Failure::Fatal(_))));
    let strange = ResumePoint {
        partition: partition("/in/a.txt"),
        offset: r#"{"line":7}"#.to_owned(),
    };
    assert!(matches!(open(vec![strange]), Err(Failure::Fatal(_))));
}

#[test]
fn the_book_shows_this_code() {
    let page = include_str!("../../../../docs/guide/plugins/roles.md");
    let code = include_str!("lib.rs").split_once("\n\n").expect("a first line").1;
    let code = code.split("\n#[cfg(test)]").next().expect("a beginning");
    assert!(page.contains(&format!("```rust\n{code}```\n")), "{code}");
}
