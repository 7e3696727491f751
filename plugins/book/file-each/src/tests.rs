use super::*;
use culvert_plugin::testing;

fn open() -> FileEach {
    let settings = testing::settings([("prefix", "/out/r")]).expect("the settings are right");
    let (sink, tokens) = FileEach::open(settings, vec![7; 16]).expect("it opens");
    assert!(tokens.is_empty());
    sink
}

fn batch(values: &[Option<&str>]) -> Batch {
    let message = |value: &Option<&str>| Message {
        key: None,
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp: None,
    };
    Batch {
        stream: "site/orders/0".to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        from: 10,
        to: 10 + values.len() as u64,
        sequences: Vec::new(),
        attributes: Vec::new(),
        messages: values.iter().map(message).collect(),
    }
}

#[test]
fn a_record_has_one_file_however_often_it_is_written() {
    for _ in 0..2 {
        let mut sink = open();
        sink.put(vec![batch(&[Some("a"), Some("b")])], Vec::new())
            .expect("it is written");
        let listed = files::list("/out", None).expect("the folder is there");
        assert_eq!(listed.len(), 2);
        assert_eq!(
            testing::file(&sink.path("site/orders/0", 11)),
            Some(b"b".to_vec())
        );
    }
}

#[test]
fn where_one_is_refused_none_is_written() {
    let mut sink = open();
    let refused = sink.put(vec![batch(&[Some("a"), None])], Vec::new());
    assert!(matches!(
        refused,
        Err(PutError::Refused(all)) if all.len() == 1 && all[0].message == 1 && all[0].why.code == "tombstone"
    ));
    assert_eq!(testing::file(&sink.path("site/orders/0", 10)), None);
}

#[test]
fn the_book_shows_this_code() {
    let page = include_str!("../../../../docs/guide/plugins/roles.md");
    let code = include_str!("lib.rs").split_once("\n\n").expect("a first line").1;
    let code = code.split("\n#[cfg(test)]").next().expect("a beginning");
    assert!(page.contains(&format!("```rust\n{code}```\n")), "{code}");
}
