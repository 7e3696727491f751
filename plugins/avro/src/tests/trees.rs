use super::*;
use culvert_plugin::codec::{Decimal, Node, Span};

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

#[test]
fn children_lie_behind_their_parent_in_one_range() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"array","items":"int"}}},{"name":"b","type":"string"}]}"#;
    let mut bench = Bench::new([]);
    let bytes = bench
        .from_json(schema, r#"{"a":[[1,2],[],[3]],"b":"x"}"#)
        .unwrap();
    let tree = bench.decode(schema, schema, &bytes).unwrap();
    let Node::Entries(Span { first: 1, count: 4 }) = tree.nodes[0] else {
        panic!("{tree:?}")
    };
    assert_eq!(
        [&tree.nodes[1], &tree.nodes[3], &tree.nodes[4]],
        [&text("a"), &text("b"), &text("x")]
    );
    for (at, node) in tree.nodes.iter().enumerate() {
        if let Node::Items(span) | Node::Entries(span) = node {
            assert!(span.count == 0 || span.first as usize > at, "{tree:?}");
        }
    }
    assert_eq!(bench.encode(schema, &tree), Ok(bytes));
}

#[test]
fn nodes_of_other_sources_have_a_place_where_nothing_is_lost() {
    let check = |schema: &str, node: Node, expected: Result<&[u8], &str>| {
        let encoded = Bench::new([]).encode(
            schema,
            &Tree {
                nodes: vec![node.clone()],
            },
        );
        let encoded = encoded.as_deref().map_err(|why| why.code.as_str());
        assert_eq!(encoded, expected, "{schema}: {node:?}");
    };
    check(r#""long""#, Node::Unsigned(5), Ok(&[10]));
    check(r#""long""#, Node::Unsigned(u64::MAX), Err("out-of-range"));
    check(r#""int""#, Node::Float(5.0), Ok(&[10]));
    check(r#""int""#, Node::Float(5.5), Err("out-of-range"));
    check(
        r#""double""#,
        Node::Integer(1),
        Ok(&[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
    );
    check(r#""bytes""#, text("AAAA"), Err("wrong-type"));
    check(r#""string""#, Node::Bytes(vec![65]), Err("wrong-type"));
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":6,"scale":3}"#;
    let of = |unscaled: u8, scale| {
        Node::Decimal(Decimal {
            unscaled: vec![unscaled],
            scale,
        })
    };
    check(decimal, of(12, 3), Ok(&[2, 12]));
    check(decimal, of(12, 1), Ok(&[4, 0x04, 0xb0]));
    check(decimal, of(12, 4), Err("out-of-range"));
    check(decimal, Node::Integer(1), Ok(&[4, 0x03, 0xe8]));
    check(decimal, text("1"), Err("wrong-type"));
    check(decimal, Node::Bytes(vec![1]), Err("wrong-type"));
    check(r#"["null","string"]"#, Node::Boolean(true), Err("wrong-type"));
    check(
        r#"[{"type":"int","logicalType":"date"},"long"]"#,
        Node::Days(1),
        Ok(&[0, 2]),
    );
}

#[test]
fn what_is_no_tree_is_refused() {
    let lists = r#"{"type":"record","name":"L","fields":[{"name":"l","type":{"type":"array","items":"L"}}]}"#;
    let check = |nodes: Vec<Node>| {
        let why = Bench::new([])
            .encode(lists, &Tree { nodes: nodes.clone() })
            .unwrap_err();
        assert_eq!(why.code, "malformed", "{nodes:?}: {}", why.reason);
    };
    let span = |first, count| Span { first, count };
    check(vec![]);
    check(vec![Node::Entries(span(0, 2)), Node::Null]);
    check(vec![Node::Entries(span(1, 2))]);
    check(vec![Node::Entries(span(u32::MAX, 2))]);
    check(vec![Node::Entries(span(1, 1)), text("l")]);
    check(vec![Node::Entries(span(1, 2)), Node::Null, Node::Null]);
    check(vec![Node::Items(span(1, u32::MAX))]);
    // Each pair of nodes has the next pair twice as its children, and as many orphans make the count right.
    let mut nodes = vec![Node::Items(span(1, 2))];
    for level in 0..90 {
        let next = span(level * 2 + 3, 2);
        nodes.extend([Node::Items(next), Node::Items(next)]);
    }
    nodes.extend(std::iter::repeat_n(Node::Null, 400));
    let nested = (0..91).fold("\"null\"".to_owned(), |inner, _| {
        format!(r#"{{"type":"array","items":{inner}}}"#)
    });
    let why = Bench::new([]).encode(&nested, &Tree { nodes }).unwrap_err();
    assert!(
        why.code == "malformed" && why.reason.contains("more than one parent"),
        "{why:?}"
    );
}
