use super::*;
use culvert_plugin::testing;

fn table(settings: &[(&'static str, &'static str)]) -> Table {
    let settings = testing::settings(settings.iter().copied()).expect("settings");
    Table::open(settings).expect("it opens")
}

fn named(text: &str) -> Schema {
    Schema {
        id: 1,
        subject: "people".to_owned(),
        version: 1,
        text: text.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    }
}

fn schema(text: &str) -> Columns {
    table(&[]).prepare(&named(text)).expect("a schema")
}

fn code(fault: Result<(), Fault>) -> String {
    match fault {
        Err(Fault::Reject(why)) => why.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_is_json_of_the_reader_and_comes_back() {
    let (writer, reader) = (schema("id;name"), schema("name;born"));
    let (mut table, mut json) = (table(&[]), Vec::new());
    table
        .to_json(&writer, &reader, b"7;Ann \"A\"", &mut json)
        .expect("JSON");
    let read: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(read, serde_json::json!({ "name": "Ann \"A\"", "born": null }));
    let mut bytes = Vec::new();
    table
        .from_json(&writer, br#"{"name":"Bo","id":"8"}"#, &mut bytes)
        .expect("bytes");
    assert_eq!(bytes, b"8;Bo");
}

#[test]
fn a_tree_comes_back_as_the_same_bytes() {
    let (mut table, columns) = (table(&[]), schema("id;name"));
    let tree = table.decode(&columns, &columns, b"7;").expect("a tree");
    let mut bytes = Vec::new();
    table.encode(&columns, &tree, &mut bytes).expect("bytes");
    assert_eq!(bytes, b"7;");
}

#[test]
fn what_does_not_fit_is_refused_with_a_code() {
    let columns = schema("id;name");
    let read = |bytes: &[u8]| code(table(&[]).to_json(&columns, &columns, bytes, &mut Vec::new()));
    assert_eq!(read(b"7"), "wrong-count");
    assert_eq!(read(b"7;\xff"), "not-utf-8");
    let write = |json: &str| code(table(&[]).from_json(&columns, json.as_bytes(), &mut Vec::new()));
    assert_eq!(write(r#"{"id":"7"}"#), "schema-mismatch");
    assert_eq!(write(r#"{"id":"7","name":"a","age":"3"}"#), "schema-mismatch");
    assert_eq!(write(r#"{"id":"7","name":"a;b"}"#), "out-of-range");
}

#[test]
fn columns_are_those_of_the_settings_where_no_schema_is_shown() {
    let mut table = table(&[("columns", "id,name"), ("separator", "|")]);
    let columns = table.prepare(&named("")).expect("a schema");
    let mut json = Vec::new();
    table
        .to_json(&columns, &columns, b"7|Ann;", &mut json)
        .expect("JSON");
    let read: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(read, serde_json::json!({ "id": "7", "name": "Ann;" }));
    let without = self::table(&[]).prepare(&named(""));
    assert_eq!(without.expect_err("no columns").code, "schema-invalid");
    let twice = testing::settings([("columns", "a,b,a")]).expect("settings");
    assert_eq!(Table::check(&twice).len(), 1);
}

#[test]
fn the_book_shows_this_code() {
    let page = include_str!("../../../../docs/guide/plugins/roles.md");
    let code = include_str!("lib.rs").split_once("\n\n").expect("a first line").1;
    let code = code.split("\n#[cfg(test)]").next().expect("a beginning");
    assert!(page.contains(&format!("```rust\n{code}```\n")), "{code}");
}
