use super::*;
use crate::Schema;
use crate::container::{Compression, Container, Writer};

#[test]
fn a_file_is_the_list_of_its_records() {
    for compression in ["null", "deflate"] {
        let mut bench = Bench::new([("framing", "container"), ("container.compression", compression)]);
        let schema = field(
            r#"{"type":"string","logicalType":"uuid"}"#,
            r#","default":"é","aliases":["g"]"#,
        );
        let file = bench.from_json(&schema, r#"[{"f":"a"},{},{"f":"c"}]"#).unwrap();
        let json = r#"[{"f":"a"},{"f":"é"},{"f":"c"}]"#;
        // Whatever is named as the writer's: the schema in the file is.
        assert_eq!(bench.to_json(r#""int""#, &schema, &file).as_deref(), Ok(json));
        let reader = field(r#""bytes""#, "");
        assert_eq!(
            bench.to_json(&schema, &reader, &file).as_deref(),
            Ok(r#"[{"f":"YQ=="},{"f":"w6k="},{"f":"Yw=="}]"#)
        );
        let tree = bench.decode(&schema, &schema, &file).unwrap();
        assert_eq!(bench.encode(&schema, &tree).as_ref(), Ok(&file));
        let empty = bench.from_json(&schema, "[]").unwrap();
        assert_eq!(bench.to_json(&schema, &schema, &empty).as_deref(), Ok("[]"));
        assert_eq!(bench.from_json(&schema, "{}").unwrap_err().code, "wrong-type");
        assert_eq!(
            said(&bench.from_json(&schema, "[{},{\"f\":1}]").unwrap_err()),
            "wrong-type /1/f"
        );
    }
}

#[test]
fn large_files_have_many_blocks() {
    let schema = Schema::parse(r#""bytes""#, &[]).unwrap();
    let record = [&[0xd0, 0x0f][..], &[7; 1_000]].concat();
    for compression in [Compression::Null, Compression::Deflate] {
        let mut file = Vec::new();
        let mut writer = Writer::new(&schema, compression, &mut file);
        (0..1_000).for_each(|_| writer.record(&record));
        writer.finish();
        let container = Container::read(&file).unwrap();
        assert_eq!(container.records().count(), 1_000);
        assert!(container.records().all(|read| read == record));
        assert_eq!(
            file.len() < 100_000,
            compression == Compression::Deflate,
            "{}",
            file.len()
        );
    }
}

/// Each byte of a file changed, and the file cut at each place: an answer, and mostly a refusal.
#[test]
fn damaged_files_are_refused() {
    let mut bench = Bench::new([("framing", "container"), ("container.compression", "deflate")]);
    let schema = field(r#""string""#, "");
    let file = bench
        .from_json(&schema, r#"[{"f":"some text"},{"f":"some text"}]"#)
        .unwrap();
    let prepared = bench.schema(&schema);
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        let _ = bench.codec.decode(&prepared, &prepared, &damaged);
    }
    let cuts = (0..file.len()).filter(|end| {
        let read = rejected(bench.codec.decode(&prepared, &prepared, &file[..*end]));
        read.is_ok()
    });
    // Behind the head a file without blocks is whole.
    assert_eq!(cuts.count(), 1);
}

#[test]
fn a_block_that_inflates_without_end_is_refused() {
    let schema = Schema::parse(r#""bytes""#, &[]).unwrap();
    let mut file = Vec::new();
    let mut writer = Writer::new(&schema, Compression::Deflate, &mut file);
    let size = 80 << 20;
    let mut record = Vec::new();
    crate::encode::put_bytes(&mut record, &vec![0; size]);
    writer.record(&record);
    writer.finish();
    assert!(file.len() < size / 100);
    assert_eq!(Container::read(&file).unwrap_err().code, "bad-framing");
}

#[test]
fn unknown_compressions_are_named() {
    let mut file = b"Obj\x01".to_vec();
    file.extend_from_slice(b"\x04\x16avro.schema\x0a\"int\"\x14avro.codec\x0csnappy\x00");
    file.extend_from_slice(&[0; 16]);
    let why = Container::read(&file).unwrap_err();
    assert!(
        why.code == "bad-framing" && why.reason.contains("`snappy`"),
        "{why:?}"
    );
}
