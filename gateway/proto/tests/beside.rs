//! Who keeps what does not go on, as the writer of dead letters does, is one more route: where it begins, and what it holds
//! back.

use culvert_proto::origin::{Action, Origin, Place};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Position, Sequence};

const WRITER: u128 = 7;

const BESIDE: &str = "beside";

fn at(place: u64) -> Sequence {
    Sequence(place)
}

fn route(name: &str) -> RouteId {
    RouteId::new("site", name)
}

fn position(place: u64) -> Position {
    let guard = Guard { epoch: 0, crc: 1 };
    Position {
        at: at(place),
        guard,
        ..Position::beginning(0, at(0), Guard::NONE)
    }
}

/// An origin that is read from where the group was, with these sinks and somebody beside; all have been asked.
struct Scene {
    origin: Origin,
    asked: Vec<(RouteId, u128)>,
}

impl Scene {
    fn new(sinks: &[&str], committed: Option<u64>) -> Scene {
        let mut origin = Origin::new(true, 0);
        origin.register_beside(route(BESIDE), 0, false);
        for sink in sinks {
            origin.register(route(sink), 0, false);
        }
        origin.assigned(committed.map(Sequence));
        for name in sinks.iter().chain([&BESIDE]) {
            origin.linked(&route(name));
        }
        let mut scene = Scene {
            origin,
            asked: Vec::new(),
        };
        scene.actions();
        scene
    }

    /// What was decided since, but for questions, which are remembered.
    fn actions(&mut self) -> Vec<Action> {
        let mut others = Vec::new();
        for action in self.origin.take_actions() {
            match action {
                Action::Ask { route, nonce } => self.asked.push((route, nonce)),
                other => others.push(other),
            }
        }
        others
    }

    fn answer(&mut self, name: &str, told: Option<Position>) -> Vec<Action> {
        let asked = self.asked.iter().rev().find(|(to, _)| *to == route(name));
        let nonce = asked.expect("it was asked").1;
        self.origin.answer(&route(name), nonce, WRITER, told);
        self.actions()
    }

    fn moves(&mut self, name: &str, place: u64) -> Vec<Action> {
        self.origin.position(&route(name), WRITER, position(place));
        self.actions()
    }

    /// `[from, to)` is read and on disk.
    fn reads(&mut self, from: u64, to: u64) {
        self.origin.placed(at(from), Guard::NONE);
        self.origin.appended(at(to), Guard { epoch: 0, crc: 1 });
        self.origin.durable(at(to));
    }
}

/// Where the route is told to begin.
fn begins(actions: &[Action], name: &str) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Begin { route: of, start, .. } if *of == route(name) => Some(start.0),
        _ => None,
    })
}

fn trims(actions: &[Action]) -> Vec<u64> {
    let below = |action: &Action| match action {
        Action::Trim(below) => Some(below.0),
        _ => None,
    };
    actions.iter().filter_map(below).collect()
}

#[test]
fn it_begins_where_the_sinks_are_and_nothing_is_read_again_for_it() {
    let mut scene = Scene::new(&["one", "two"], Some(50));
    scene.answer("one", Some(position(70)));
    scene.answer("two", Some(position(50)));
    let actions = scene.answer(BESIDE, None);
    assert_eq!(begins(&actions, BESIDE), Some(50));
    assert!(!actions.contains(&Action::Place(Place::Beginning)), "{actions:?}");
}

#[test]
fn it_waits_until_every_sink_has_said_where_it_is() {
    let mut scene = Scene::new(&["one", "two"], Some(50));
    scene.answer("one", Some(position(70)));
    let mut actions = scene.answer(BESIDE, None);
    scene.reads(50, 60);
    actions.extend(scene.actions());
    assert_eq!(begins(&actions, BESIDE), None);
    let actions = scene.answer("two", Some(position(50)));
    assert_eq!(begins(&actions, BESIDE), Some(50));
}

#[test]
fn of_a_stream_that_nobody_has_it_begins_with_the_sinks() {
    for last in [BESIDE, "one"] {
        let mut scene = Scene::new(&["one"], None);
        let first = if last == BESIDE { "one" } else { BESIDE };
        scene.answer(first, None);
        let actions = scene.answer(last, None);
        assert!(actions.contains(&Action::Place(Place::Beginning)), "{actions:?}");
        scene.reads(40, 40);
        let actions = scene.actions();
        let begun = (begins(&actions, "one"), begins(&actions, BESIDE));
        assert_eq!(begun, (Some(40), Some(40)), "{last} answered last");
    }
}

#[test]
fn a_sink_that_comes_later_and_begins_anew_takes_it_along() {
    let mut scene = Scene::new(&["one", "new"], Some(50));
    scene.answer("one", Some(position(50)));
    scene.answer(BESIDE, None);
    let mut actions = scene.answer("new", None);
    scene.reads(20, 20);
    actions.extend(scene.actions());
    assert_eq!(
        (begins(&actions, "new"), begins(&actions, BESIDE)),
        (Some(20), None)
    );
    let actions = scene.answer("new", Some(position(20)));
    assert_eq!(begins(&actions, BESIDE), Some(20));
}

/// S10: its beginning may be lost before it is stored. A sink that has gone on by then would hide what was refused meanwhile.
#[test]
fn nothing_is_sent_before_it_has_begun() {
    let mut scene = Scene::new(&["one"], None);
    scene.answer("one", None);
    scene.answer(BESIDE, None);
    scene.reads(40, 60);
    scene.actions();
    scene.answer("one", Some(position(40)));
    scene.origin.want(&route("one"), at(40));
    assert_eq!(scene.origin.next_to_send(&route("one")), None);
    scene.origin.linked(&route(BESIDE));
    scene.actions();
    let actions = scene.answer(BESIDE, None);
    assert_eq!(begins(&actions, BESIDE), Some(40));
    scene.answer(BESIDE, Some(position(40)));
    assert_eq!(scene.origin.next_to_send(&route("one")), Some(at(40)));
}

/// S5: what it has not kept yet is not freed, and without a sink it lets nothing go.
#[test]
fn it_holds_back_what_is_freed_and_frees_nothing_alone() {
    let mut scene = Scene::new(&["one"], Some(0));
    scene.answer("one", Some(position(0)));
    scene.answer(BESIDE, Some(position(0)));
    scene.reads(0, 100);
    scene.actions();
    assert_eq!(trims(&scene.moves("one", 80)), Vec::<u64>::new());
    assert_eq!(trims(&scene.moves(BESIDE, 60)), [60]);
    let mut alone = Scene::new(&[], Some(0));
    alone.answer(BESIDE, Some(position(0)));
    alone.reads(0, 100);
    alone.actions();
    assert!(alone.moves(BESIDE, 100).is_empty());
}
