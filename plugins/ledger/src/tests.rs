use super::*;

fn open(settings: &[(&str, &str)], resume: Vec<ResumePoint>) -> Result<Ledger, Failure> {
    let mut values = Settings::fields()
        .into_iter()
        .map(|field| culvert_plugin::Value {
            name: field.name,
            value: field.default_value,
        })
        .collect::<Vec<_>>();
    for (name, value) in settings {
        let found = values.iter_mut().find(|known| known.name == *name);
        found.expect("a setting of that name").value = Some((*value).to_owned());
    }
    let settings = culvert_plugin::config::opened(&values, |_| Vec::new())?;
    Ledger::open(settings, resume)
}

const LIMITS: Limits = Limits {
    messages: 1_000,
    bytes: 1 << 20,
    wait: Duration::ZERO,
};

#[test]
fn numbers_and_sums_go_on_behind_the_resume_point() {
    let mut ledger = open(&[("page", "3")], Vec::new()).expect("it opens");
    let page = ledger.poll(LIMITS).expect("a page");
    let values: Vec<&[u8]> = page
        .messages
        .iter()
        .filter_map(|produced| produced.message.value.as_deref())
        .collect();
    let expected: [&[u8]; 3] = [
        br#"{"number":0,"sum":0}"#,
        br#"{"number":1,"sum":1}"#,
        br#"{"number":2,"sum":3}"#,
    ];
    assert_eq!(values, expected);
    let resume = page.resume_points;
    let mut ledger = open(&[("page", "1")], resume).expect("it opens again");
    let page = ledger.poll(LIMITS).expect("a page");
    assert_eq!(
        page.messages[0].message.value.as_deref(),
        Some(&br#"{"number":3,"sum":6}"#[..])
    );
    assert_eq!(page.messages[0].topic, "ledger-0");
}

#[test]
fn a_store_that_is_not_of_the_resume_point_is_told() {
    open(&[], Vec::new())
        .expect("it opens")
        .poll(LIMITS)
        .expect("a page");
    assert!(matches!(open(&[], Vec::new()), Err(Failure::Fatal(_))));
}
