//! One test for each mistake that the simulation found in the machines, named for what went wrong.

use culvert_proto::digest::Digest;
use culvert_proto::origin::{Action, Halted, Origin, Place};
use culvert_proto::queue::{self, Queue};
use culvert_proto::receiver::{Admission, Question, Receiver, Verdict};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Interval, Lineage, Position, Seam, Sequence, StreamId};

const WRITER: u128 = 7;

fn at(place: u64) -> Sequence {
    Sequence(place)
}

fn guard(epoch: i32, crc: u32) -> Guard {
    Guard { epoch, crc }
}

fn route(name: &str) -> RouteId {
    RouteId::new("sink", name)
}

fn position(place: u64, guard: Guard) -> Position {
    Position {
        at: at(place),
        guard,
        ..Position::beginning(0, at(0), Guard::NONE)
    }
}

/// An origin with these routes, each with a way to its sink, that reads where the group was.
fn origin(routes: &[&str], committed: Option<u64>) -> Origin {
    let mut origin = Origin::new(true, 0);
    for name in routes {
        origin.register(route(name), 0, false);
    }
    origin.assigned(committed.map(Sequence));
    for name in routes {
        origin.linked(&route(name));
    }
    origin
}

/// The nonce of the last question to this route, and every other action since.
fn take(origin: &mut Origin, name: &str) -> (Option<u128>, Vec<Action>) {
    let mut asked = None;
    let mut others = Vec::new();
    for action in origin.take_actions() {
        match action {
            Action::Ask { route: to, nonce } if to == route(name) => asked = Some(nonce),
            other => others.push(other),
        }
    }
    (asked, others)
}

fn answer(origin: &mut Origin, name: &str, told: Option<Position>) -> Vec<Action> {
    let (asked, mut actions) = take(origin, name);
    let nonce = asked.expect("the sink was asked");
    origin.answer(&route(name), nonce, WRITER, told);
    actions.extend(take(origin, name).1);
    actions
}

/// An origin that reads from 0, holds `[0, tail)` on disk, and whose sink stands at 0.
fn delivering(tail: u64) -> Origin {
    let mut origin = origin(&["one"], None);
    answer(&mut origin, "one", None);
    origin.placed(at(0), Guard::NONE);
    origin.appended(at(tail), guard(0, 1));
    origin.durable(at(tail));
    origin.linked(&route("one"));
    answer(&mut origin, "one", Some(position(0, Guard::NONE)));
    origin
}

#[test]
fn a_relays_wish_does_not_decide_where_a_stream_begins() {
    let mut origin = origin(&["one"], None);
    origin.want(&route("one"), at(8));
    let actions = answer(&mut origin, "one", None);
    assert!(actions.contains(&Action::Place(Place::Beginning)), "{actions:?}");
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Restart(_))),
        "{actions:?}"
    );
}

#[test]
fn a_place_remembered_by_the_outbox_is_not_taken_for_the_beginning() {
    let mut origin = origin(&["one"], Some(5));
    origin.placed(at(5), guard(0, 1));
    assert_eq!(origin.start(), None);
    let actions = answer(&mut origin, "one", Some(position(5, guard(0, 1))));
    assert!(
        actions.contains(&Action::RememberStart(at(0))),
        "as the sink remembers it: {actions:?}"
    );
}

#[test]
fn what_is_sent_goes_on_where_freeing_has_overtaken_it() {
    let mut origin = delivering(10);
    origin.want(&route("one"), at(0));
    origin.position(&route("one"), WRITER, position(6, guard(0, 6)));
    assert_eq!(origin.next_to_send(&route("one")), Some(at(6)));
}

#[test]
fn what_became_durable_after_the_sink_had_it_is_freed() {
    let mut origin = delivering(10);
    origin.appended(at(12), guard(0, 2));
    origin.position(&route("one"), WRITER, position(12, guard(0, 2)));
    let _ = origin.take_actions();
    origin.durable(at(12));
    assert!(origin.take_actions().contains(&Action::Trim(at(12))));
}

#[test]
fn a_place_that_only_we_still_believe_in_is_no_reason_to_halt() {
    let mut origin = origin(&["one"], Some(5));
    let (_, actions) = take(&mut origin, "one");
    assert!(!actions.is_empty());
    // The source has deleted everything below 50 since: all sinks have it.
    origin.halt(Halted::Source);
    assert_eq!(origin.halted(), None);
    let actions = answer(&mut origin, "one", Some(position(50, guard(3, 9))));
    let place = Place::At {
        at: at(50),
        guard: guard(3, 9),
    };
    assert!(actions.contains(&Action::Place(place)), "{actions:?}");
    origin.halt(Halted::Source);
    answer(&mut origin, "one", Some(position(50, guard(3, 9))));
    origin.halt(Halted::Source);
    assert_eq!(
        origin.halted(),
        Some(&Halted::Source),
        "refused again after the sink answered"
    );
}

/// It was read again five times a second, each time up to the same record.
#[test]
fn a_record_that_cannot_go_on_is_not_read_again_until_its_sink_goes_back() {
    let mut origin = delivering(10);
    origin.halt(Halted::Record);
    assert_eq!(origin.halted(), Some(&Halted::Record));
    origin.position(&route("one"), WRITER, position(10, guard(0, 2)));
    assert!(
        !origin
            .take_actions()
            .iter()
            .any(|action| matches!(action, Action::Place(_)))
    );
    assert_eq!(origin.halted(), Some(&Halted::Record));
}

#[test]
fn nothing_is_sent_from_a_bare_number_before_the_sink_has_said_where_it_stands() {
    let mut origin = origin(&["one"], Some(5));
    origin.placed(at(5), Guard::NONE);
    origin.appended(at(9), guard(1, 9));
    origin.durable(at(9));
    origin.want(&route("one"), at(5));
    assert_eq!(origin.next_to_send(&route("one")), None);
    let actions = answer(&mut origin, "one", Some(position(5, guard(0, 5))));
    let place = Place::At {
        at: at(5),
        guard: guard(0, 5),
    };
    assert!(
        actions.contains(&Action::Place(place)),
        "read again, behind the sink's guard: {actions:?}"
    );
}

#[test]
fn a_sink_that_lost_its_position_stays_halted_when_another_goes_on() {
    let mut origin = Origin::new(true, 0);
    origin.register(route("lost"), 0, true);
    origin.register(route("other"), 0, true);
    origin.assigned(Some(at(5)));
    origin.linked(&route("lost"));
    answer(&mut origin, "lost", None);
    assert!(matches!(origin.halted(), Some(Halted::PositionLost { .. })));
    origin.linked(&route("other"));
    answer(&mut origin, "other", Some(position(9, guard(0, 9))));
    assert!(matches!(origin.halted(), Some(Halted::PositionLost { .. })));
}

#[test]
fn a_gateway_that_does_not_read_frees_nothing_while_a_sink_is_unknown() {
    let mut origin = Origin::new(true, 0);
    origin.restored(Some(at(0)), Some(held(0, 5)));
    origin.register(route("one"), 0, true);
    origin.register(route("two"), 0, true);
    origin.linked(&route("one"));
    let actions = answer(&mut origin, "one", Some(position(9, guard(0, 9))));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Trim(_))),
        "{actions:?}"
    );
}

#[test]
fn a_sink_that_stands_at_our_end_with_another_record_is_noticed() {
    let mut origin = delivering(10);
    origin.position(&route("one"), WRITER, position(10, guard(0, 99)));
    assert!(matches!(origin.halted(), Some(Halted::Forked { .. })));
    assert!(
        !origin
            .take_actions()
            .iter()
            .any(|action| matches!(action, Action::Trim(_)))
    );
}

#[test]
fn a_stream_begun_through_somebody_else_is_asked_about_again() {
    let mut origin = origin(&["one", "two"], None);
    answer(&mut origin, "one", None);
    let _ = origin.take_actions();
    origin.position(&route("one"), 99, position(0, Guard::NONE));
    assert!(take(&mut origin, "one").0.is_some());
}

#[test]
fn a_stream_that_was_refused_and_taken_away_is_not_read_again_by_who_lost_it() {
    let mut origin = origin(&["one"], Some(5));
    let _ = answer(&mut origin, "one", Some(position(5, guard(0, 1))));
    for _ in 0..2 {
        origin.halt(Halted::Source);
        origin.linked(&route("one"));
        let _ = answer(&mut origin, "one", Some(position(5, guard(0, 1))));
    }
    origin.halt(Halted::Source);
    assert_eq!(origin.halted(), Some(&Halted::Source));
    origin.revoked();
    origin.linked(&route("one"));
    let actions = answer(&mut origin, "one", Some(position(5, guard(0, 1))));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Place(_))),
        "{actions:?}"
    );
}

fn held(base: u64, tail: u64) -> culvert_proto::origin::Held {
    culvert_proto::origin::Held {
        base: at(base),
        durable: at(tail),
        tail: at(tail),
        guard_base: Some(guard(0, 1)),
        guard_tail: Some(guard(0, 2)),
    }
}

// ----- relays --------------------------------------------------------------------------------------------------------

fn interval(from: u64, to: u64) -> Interval {
    Interval::new(at(from), at(to))
}

/// A queue that holds `[from, to)` on disk.
fn queue(from: u64, to: u64) -> Queue {
    let mut queue = Queue::default();
    let _ = queue.frame(interval(from, to));
    queue.durable(at(to));
    let _ = queue.take_actions();
    queue
}

#[test]
fn frames_under_way_are_not_taken_for_the_beginning_of_a_queue_that_went_back() {
    let mut queue = queue(20, 30);
    queue.want(at(5));
    assert_eq!(queue.frame(interval(30, 35)), queue::Verdict::Gap);
    assert_eq!(
        queue.frame(interval(5, 10)),
        queue::Verdict::Append(interval(5, 10))
    );
}

#[test]
fn a_queue_that_ends_before_what_is_offered_begins_there() {
    let mut queue = queue(3, 5);
    queue.offered(interval(8, 12));
    let begins = [queue::Action::Restart(at(8)), queue::Action::Want(at(8))];
    assert_eq!(queue.take_actions(), begins);
}

#[test]
fn a_position_from_before_a_restore_does_not_free_what_the_next_hop_waits_for() {
    let mut queue = queue(7, 13);
    queue.want(at(7));
    queue.position(at(13));
    assert_eq!(queue.next_to_send(), Some(at(7)));
    queue.sent(interval(7, 13));
    assert!(queue.take_actions().contains(&queue::Action::Trim(at(13))));
}

// ----- sinks ---------------------------------------------------------------------------------------------------------

fn stream() -> StreamId {
    StreamId {
        site: "factory".into(),
        topic: "orders".into(),
        partition: 0,
        lineage: Lineage::Replayable {
            cluster: "k".into(),
            topic: [1; 16],
        },
    }
}

#[test]
fn a_question_about_two_streams_that_comes_in_two_parts_is_answered_for_both() {
    let other = StreamId {
        partition: 1,
        ..stream()
    };
    let mut receiver = Receiver::new(0);
    receiver.taken(
        WRITER,
        [stream(), other.clone()].map(|id| (id, position(5, guard(1, 44)))),
    );
    for id in [stream(), other.clone(), other] {
        receiver.ask(Question {
            nonce: 1,
            streams: vec![id],
        });
    }
    let _ = receiver.to_commit();
    let (_, answers) = receiver.committed();
    assert_eq!(answers.len(), 2, "{answers:?}");
}

fn receiver(position: Position) -> Receiver {
    let mut receiver = Receiver::new(0);
    receiver.taken(WRITER, [(stream(), position)]);
    receiver
}

/// Each such question once made the sink's gateway take its shard anew, and all other streams wait for that.
#[test]
fn streams_that_are_not_held_are_answered_for_by_one_commit() {
    let mut receiver = receiver(position(5, guard(1, 44)));
    let other = |partition| StreamId {
        partition,
        ..stream()
    };
    for partition in 1..=3 {
        let streams = Vec::from([other(partition)]);
        receiver.ask(Question {
            nonce: partition.into(),
            streams,
        });
    }
    assert!(!receiver.must_take() && receiver.must_commit());
    assert_eq!(receiver.to_commit(), [], "the commit proves the writer alone");
    let (moved, answers) = receiver.committed();
    assert_eq!(moved, []);
    let said: Vec<_> = answers
        .into_iter()
        .map(|answer| (answer.nonce, answer.writer, answer.positions))
        .collect();
    assert_eq!(
        said,
        [1, 2, 3].map(|partition| (partition.into(), WRITER, vec![(other(partition), None)]))
    );

    // A writer that is gone proves nothing: the next one answers when it has taken the shard.
    receiver.ask(Question {
        nonce: 4,
        streams: vec![other(4)],
    });
    receiver.lost();
    assert!(receiver.must_take() && receiver.answer_after_taking().is_empty());
    receiver.taken(WRITER + 1, []);
    assert_eq!(receiver.answer_after_taking()[0].writer, WRITER + 1);
}

#[test]
fn what_compaction_took_from_one_gateway_does_not_look_like_a_fork() {
    let mut receiver = receiver(position(5, guard(1, 44)));
    assert_eq!(receiver.frame(&stream(), interval(4, 6)), Verdict::Apply(at(5)));
    let hole = Seam {
        epoch_min: 0,
        epoch_max: 2,
        crc: 0,
    };
    assert_eq!(receiver.admit(&stream(), hole), Admission::Admitted);
}

#[test]
fn a_hole_of_a_later_epoch_than_the_sinks_record_is_a_fork() {
    let mut receiver = receiver(position(5, guard(1, 44)));
    let hole = Seam {
        epoch_min: 2,
        epoch_max: 3,
        crc: 0,
    };
    assert!(matches!(
        receiver.admit(&stream(), hole),
        Admission::Forked { .. }
    ));
    assert_eq!(receiver.frame(&stream(), interval(5, 6)), Verdict::NotNow);
}

#[test]
fn the_guard_of_a_position_names_the_place_before_it_and_no_record_further_back() {
    let mut receiver = receiver(position(5, guard(1, 44)));
    receiver.wrote(&stream(), at(6), guard(2, 0), &Digest::EMPTY);
    receiver.ask(Question {
        nonce: 1,
        streams: vec![stream()],
    });
    let (_, written) = receiver.to_commit().remove(0);
    assert_eq!(written.guard, guard(2, 0));
}

#[test]
fn what_is_unsent_is_counted_for_the_next_hop_that_is_nearest_to_the_tail() {
    let mut origin = delivering(10);
    assert_eq!(origin.unsent(), None, "nobody has said where to send from");
    origin.want(&route("one"), at(4));
    assert_eq!(origin.unsent(), Some(6));
    origin.sent(&route("one"), Interval::new(at(4), at(9)));
    assert_eq!(origin.unsent(), Some(1));
    origin.unlinked(&route("one"));
    assert_eq!(origin.unsent(), None);
}

#[test]
fn a_route_begun_anew_ends_the_halt_that_it_decides_about() {
    let mut origin = delivering(10);
    origin.position(&route("one"), WRITER, position(6, guard(0, 6)));
    origin.linked(&route("one"));
    answer(&mut origin, "one", None);
    assert!(matches!(origin.halted(), Some(Halted::PositionLost { .. })));
    origin.register(route("one"), 1, false);
    assert_eq!(origin.halted(), None);
    origin.linked(&route("one"));
    let actions = answer(&mut origin, "one", None);
    assert!(actions.contains(&Action::Place(Place::Beginning)), "{actions:?}");
    origin.placed(at(3), Guard::NONE);
    assert!(origin.reads(), "what the source still has is read again");
}
