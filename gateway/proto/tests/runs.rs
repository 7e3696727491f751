//! Streams that cannot be read again: what is held of them is nowhere else.

use culvert_proto::origin::{Action, Halted, Held, Origin, Place};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Position, Sequence};

const WRITER: u128 = 7;

fn guard(crc: u32) -> Guard {
    Guard { epoch: -1, crc }
}

/// An origin whose outbox holds `[base, tail)` of a run.
fn run(base: u64, tail: u64) -> Origin {
    let mut origin = Origin::new(false, 0);
    let held = Held {
        base: Sequence(base),
        durable: Sequence(tail),
        tail: Sequence(tail),
        guard_base: Some(Guard::NONE),
        guard_tail: Some(guard(5)),
    };
    origin.restored(Some(Sequence::ZERO), Some(held));
    origin
}

fn reads(mut origin: Origin) -> Origin {
    origin.assigned(None);
    let at = origin.held().expect("it holds").tail;
    let told = origin.take_actions();
    let place = Place::At { at, guard: guard(5) };
    assert!(told.contains(&Action::Place(place)), "{told:?}");
    origin.placed(at, guard(5));
    assert!(origin.reads());
    origin
}

/// What follows when the sink of a route says where it stands.
fn answer(origin: &mut Origin, name: &str, position: Option<Position>) -> Vec<Action> {
    let route = RouteId::new("sink", name);
    origin.register(route.clone(), 0, position.is_some());
    origin.linked(&route);
    let told = origin.take_actions().into_iter();
    let nonce = told.filter_map(|action| match action {
        Action::Ask { nonce, .. } => Some(nonce),
        _ => None,
    });
    let nonce = nonce.last().expect("the sink is asked");
    origin.answer(&route, nonce, WRITER, position);
    origin.take_actions()
}

fn at(place: u64, crc: u32) -> Option<Position> {
    Some(Position {
        at: Sequence(place),
        guard: guard(crc),
        ..Position::beginning(0, Sequence::ZERO, Guard::NONE)
    })
}

#[test]
fn a_run_goes_on_behind_what_it_ever_held() {
    let mut origin = reads(run(40, 40));
    let actions = answer(&mut origin, "one", at(40, 5));
    assert_eq!(origin.halted(), None, "{actions:?}");
    assert_eq!(origin.held().expect("it holds").tail, Sequence(40));
}

#[test]
fn a_route_that_comes_later_begins_with_what_is_still_held() {
    for mut origin in [run(30, 40), reads(run(30, 40))] {
        let actions = answer(&mut origin, "late", None);
        let begins = actions.iter().any(|action| {
            matches!(action, Action::Begin { start, guard, .. } if *start == Sequence(30) && *guard == Guard::NONE)
        });
        let moved = |action: &Action| matches!(action, Action::Restart(_) | Action::Place(_));
        assert!(begins && !actions.iter().any(moved), "{actions:?}");
    }
}

#[test]
fn what_is_held_is_sent_also_while_nobody_adds_to_it() {
    let mut origin = run(30, 40);
    answer(&mut origin, "one", at(35, 0));
    let route = RouteId::new("sink", "one");
    origin.want(&route, Sequence(35));
    assert_eq!(origin.next_to_send(&route), Some(Sequence(35)));
}

#[test]
fn a_sink_that_is_ahead_of_all_that_is_known_halts_the_stream() {
    let mut origin = reads(run(30, 40));
    answer(&mut origin, "one", at(50, 9));
    assert!(
        matches!(origin.halted(), Some(Halted::Gone { wanted, .. }) if *wanted == Sequence(50)),
        "{:?}",
        origin.halted()
    );
}

#[test]
fn a_sink_that_holds_another_record_at_our_end_halts_the_stream() {
    let mut origin = reads(run(30, 40));
    answer(&mut origin, "one", at(40, 9));
    assert!(
        matches!(origin.halted(), Some(Halted::Forked { .. })),
        "{:?}",
        origin.halted()
    );
}
