use super::*;

#[test]
fn confluent_s_frame_is_written_and_checked() {
    let mut bench = Bench::new([("framing", "confluent")]);
    let int = r#""int""#;
    assert_eq!(bench.from_json(int, "1").as_deref(), Ok(&[0, 0, 0, 0, 7, 2][..]));
    assert_eq!(bench.to_json(int, int, &[0, 0, 0, 0, 7, 2]).as_deref(), Ok("1"));
    let mut refuses = |bytes: &[u8], code: &str| {
        assert_eq!(
            bench.to_json(int, int, bytes).unwrap_err().code,
            code,
            "{bytes:?}"
        );
        assert_eq!(bench.decode(int, int, bytes).unwrap_err().code, code, "{bytes:?}");
    };
    refuses(&[0, 0, 0, 0, 8, 2], "schema-id-mismatch");
    refuses(&[1, 0, 0, 0, 7, 2], "bad-framing");
    refuses(&[0, 0, 0, 0], "bad-framing");
    refuses(&[0, 0, 0, 0, 7], "truncated");
    refuses(&[0, 0, 0, 0, 7, 2, 2], "trailing-bytes");
    bench.id = 0;
    assert_eq!(bench.from_json(int, "1").unwrap_err().code, "schema-id-mismatch");
}

#[test]
fn single_objects_name_their_schema() {
    let mut bench = Bench::new([("framing", "single-object")]);
    let (int, long) = (r#""int""#, r#""long""#);
    let bytes = bench.from_json(int, "1").unwrap();
    // "int" has the fingerprint 7275a3b3fd7ab7de... of the specification: 8 bytes, little-endian.
    assert_eq!(bytes[..2], [0xc3, 0x01]);
    assert_eq!(
        bytes[2..10],
        bench.schema(int).schema().fingerprint().to_le_bytes()
    );
    assert_eq!(bench.to_json(int, long, &bytes).as_deref(), Ok("1"));
    assert_eq!(
        bench.to_json(long, long, &bytes).unwrap_err().code,
        "schema-id-mismatch"
    );
    assert_eq!(
        bench
            .to_json(int, int, &[0xc3, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 2])
            .unwrap_err()
            .code,
        "bad-framing"
    );
    assert_eq!(
        bench.to_json(int, int, &[0xc3, 0x01]).unwrap_err().code,
        "bad-framing"
    );
}
