use super::*;

/// Nobody is told.
struct Nobody;

impl Failures for Nobody {
    fn failed(&self, _: &Failure<'_>) {}
}

fn asks(tape: &Tape, call: &'static str, argument: u64, answer: u64) -> Result<u64, String> {
    let asked = ask(Some(tape), call, |out| argument.put(out));
    asked.answer(|| Ok(answer)).map_err(|error| error.to_string())
}

/// An opening and two calls, of which the second is kept.
fn recorded() -> Vec<Act> {
    let tape = Tape::recording(Arc::new(Nobody));
    tape.begin();
    asks(&tape, "a", 1, 10).expect("answered");
    tape.opened();
    tape.call();
    asks(&tape, "b", 2, 20).expect("answered");
    tape.call();
    asks(&tape, "c", 3, 30).expect("answered");
    tape.acts().expect("recordable")
}

#[test]
fn the_opening_and_the_last_call_are_kept_and_played_in_order() {
    let tape = Tape::playing(recorded());
    assert_eq!(asks(&tape, "a", 1, 0), Ok(10));
    assert_eq!(tape.left(), 1);
    assert_eq!(asks(&tape, "c", 3, 0), Ok(30));
    assert_eq!((tape.left(), tape.strayed()), (0, None));
}

#[test]
fn what_does_not_fit_is_refused_and_says_where() {
    let check = |call: &'static str, argument: u64, said: &str| {
        let tape = Tape::playing(recorded());
        assert_eq!(asks(&tape, "a", 1, 0), Ok(10));
        let error = asks(&tape, call, argument, 0).expect_err(said);
        assert_eq!(error, format!("went another way than recorded at act 2: {said}"));
        assert_eq!(tape.strayed(), Some(error));
    };
    check("d", 3, "d, and it was c then");
    check("c", 4, "c with other arguments than then");
    let tape = Tape::playing(Vec::new());
    let error = asks(&tape, "a", 1, 0).expect_err("there is nothing on it");
    assert!(
        error.ends_with("a, and nothing more was asked for then"),
        "{error}"
    );
}

#[test]
fn what_is_too_much_or_secret_is_not_kept_until_the_next_call() {
    let tape = Tape::recording(Arc::new(Nobody));
    tape.begin();
    tape.opened();
    tape.call();
    for _ in 0..3 {
        let asked = ask(Some(&tape), "a", |_| ());
        asked
            .answer(|| Ok(vec![0u8; TAPE_BYTES_MAX / 2]))
            .expect("answered");
    }
    assert!(tape.acts().expect_err("too much").contains("8 MiB"));
    tape.call();
    assert_eq!(tape.acts(), Ok(Vec::new()));
    ask(Some(&tape), "reveal", |_| ())
        .secret(|| Ok(()))
        .expect("answered");
    assert!(tape.acts().expect_err("secret").contains("the bytes of a secret"));
}

#[test]
fn an_answer_that_is_damaged_is_refused() {
    let act = Act {
        answer: Answer::Given(vec![0, 1]),
        ..recorded().remove(0)
    };
    let tape = Tape::playing(vec![act]);
    let error = asks(&tape, "a", 1, 0).expect_err("two bytes are no number");
    assert!(error.contains("cannot be read"), "{error}");
}
