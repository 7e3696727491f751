use super::*;
use transform_columns::Guest;

fn batch(commands: &[&str]) -> Columns {
    let mut columns = Columns {
        stream: "site/topic/0".to_owned(),
        topic: "topic".to_owned(),
        partition: 0,
        from: 0,
        to: commands.len() as u64,
        sequences: Vec::new(),
        attributes: Vec::new(),
        count: commands.len() as u32,
        absent: Vec::new(),
        timestamps: Vec::new(),
        key_ends: Vec::new(),
        keys: Vec::new(),
        value_ends: Vec::new(),
        values: Vec::new(),
        header_ends: Vec::new(),
        headers: Vec::new(),
    };
    for command in commands {
        columns.values.extend_from_slice(command.as_bytes());
        columns.value_ends.push(columns.values.len() as u32);
    }
    columns
}

fn check(commands: &[&str], verdicts: &[u8]) -> Results {
    let results = Hostile::process(batch(commands)).unwrap();
    assert_eq!(results.verdicts, verdicts);
    results
}

#[test]
fn commands_that_harm_nobody_are_obeyed() {
    let commands = [
        "keep", "drop", "replace", "reject", "rewrite", "expand", "anything",
    ];
    let results = check(&commands, &[KEEP, DROP, VALUE, REJECT, REWRITE, REWRITE, KEEP]);
    assert_eq!(
        (results.value_ends, results.values),
        (vec![8], b"replaced".to_vec())
    );
    assert_eq!(results.rejections[0].code, "told-to");
    let lengths: Vec<usize> = results.rewritten.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 3]);
}

#[test]
fn wrong_answers_are_as_wrong_as_they_say() {
    check(&["keep", "short"], &[KEEP]);
    check(&["long"], &[KEEP, KEEP]);
    check(&["verdict"], &[9]);
    assert_eq!(check(&["ends"], &[VALUE]).value_ends, [1_005]);
    assert!(check(&["lost"], &[VALUE]).values.is_empty());
    assert!(check(&["empty"], &[REWRITE]).rewritten[0].is_empty());
    let huge = Hostile::process(batch(&["keep", "huge"])).unwrap();
    assert!(huge.verdicts.len() > 1_000_000);
}

#[test]
fn failures_are_of_the_whole_call() {
    assert!(matches!(
        Hostile::process(batch(&["keep", "fatal"])),
        Err(Failure::Fatal(_))
    ));
    assert!(matches!(
        Hostile::process(batch(&["retry"])),
        Err(Failure::Retry(_))
    ));
    assert!(matches!(
        Hostile::process(batch(&["retry-once"])),
        Err(Failure::Retry(_))
    ));
    check(&["retry-once"], &[KEEP]);
}

#[test]
#[should_panic = "told to panic by message 1"]
fn a_panic_names_its_message() {
    let _ = Hostile::process(batch(&["keep", "panic"]));
}
