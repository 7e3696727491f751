//! Who is linked: at most one session for each peer gateway, and which of two stays.

use super::Link;
use crate::identity::{Name, Side};
use std::collections::BTreeMap;

/// The live sessions, one for each gateway.
#[derive(Default)]
pub(super) struct Roster {
    seats: BTreeMap<Name, Seat>,
}

struct Seat {
    link: Link,
    /// Nothing was heard on it lately.
    quiet: bool,
}

/// What became of a session that was offered a place.
pub(super) enum Admission {
    /// It has the place; the one before it, if any, has to go.
    Taken(Option<Link>),
    /// The one that is there stays.
    Declined(Link),
}

impl Roster {
    /// Offers `link` the place of its gateway. `us` is our own name, which settles who is the smaller.
    pub(super) fn admit(&mut self, us: &Name, link: Link) -> Admission {
        let gateway = link.peer().gateway.clone();
        let stays = self.seats.get(&gateway).is_some_and(|seat| {
            let candidate = |link: &Link, quiet| Candidate {
                instance: link.peer().instance,
                dialled_by_us: link.side() == Side::Server,
                is_carried: link.is_carried(),
                quiet,
            };
            old_stays(
                us < &gateway,
                &candidate(&seat.link, seat.quiet),
                &candidate(&link, false),
            )
        });
        if stays {
            return Admission::Declined(link);
        }
        let seat = Seat { link, quiet: false };
        Admission::Taken(self.seats.insert(gateway, seat).map(|before| before.link))
    }

    /// Takes the session out, unless another has its place already.
    pub(super) fn remove(&mut self, link: &Link) -> bool {
        let gateway = &link.peer().gateway;
        let there = self
            .seats
            .get(gateway)
            .is_some_and(|seat| seat.link.id() == link.id());
        there && self.seats.remove(gateway).is_some()
    }

    /// Notes whether anything is heard on the session.
    pub(super) fn set_quiet(&mut self, link: &Link, quiet: bool) {
        if let Some(seat) = self.seats.get_mut(&link.peer().gateway)
            && seat.link.id() == link.id()
        {
            seat.quiet = quiet;
        }
    }

    /// Whether there is a session with `gateway` on which something is heard.
    pub(super) fn is_served(&self, gateway: &Name) -> bool {
        self.seats.get(gateway).is_some_and(|seat| !seat.quiet)
    }

    /// Whether there is a session with `gateway` over TCP.
    pub(super) fn is_carried(&self, gateway: &Name) -> bool {
        self.seats.get(gateway).is_some_and(|seat| seat.link.is_carried())
    }

    /// All sessions.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.seats.values().map(|seat| &seat.link)
    }
}

struct Candidate {
    instance: [u8; 16],
    dialled_by_us: bool,
    /// Over TCP.
    is_carried: bool,
    quiet: bool,
}

/// Which of two sessions with one gateway stays. Both ends come to the same answer without talking, except where
/// only one of them has noticed that the old one is quiet; then both may go, and the next dial settles it.
fn old_stays(we_are_smaller: bool, old: &Candidate, new: &Candidate) -> bool {
    if old.instance != new.instance || old.quiet {
        return false; // the peer was started anew, or the old one may be dead
    }
    if old.dialled_by_us == new.dialled_by_us {
        return false; // one who dials twice has given up the first
    }
    if old.is_carried != new.is_carried {
        return new.is_carried; // what goes over UDP is better
    }
    // Both dialled at the same time: the session dialled by the smaller name stays.
    old.dialled_by_us == we_are_smaller
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Candidate = Candidate {
        instance: [1; 16],
        dialled_by_us: true,
        is_carried: false,
        quiet: false,
    };
    const THEIRS: Candidate = Candidate {
        dialled_by_us: false,
        ..OURS
    };

    #[test]
    fn of_two_dials_that_cross_both_ends_keep_the_smaller_ones() {
        // At the smaller end, in either order of arrival.
        assert!(old_stays(true, &OURS, &THEIRS));
        assert!(!old_stays(true, &THEIRS, &OURS));
        // At the larger end the smaller one's dial is "theirs".
        assert!(old_stays(false, &THEIRS, &OURS));
        assert!(!old_stays(false, &OURS, &THEIRS));
    }

    #[test]
    fn of_a_dial_over_udp_and_one_over_tcp_both_ends_keep_the_one_over_udp() {
        for we_are_smaller in [true, false] {
            for (udp, tcp) in [(OURS, THEIRS), (THEIRS, OURS)] {
                let tcp = Candidate {
                    is_carried: true,
                    ..tcp
                };
                assert!(old_stays(we_are_smaller, &udp, &tcp));
                assert!(!old_stays(we_are_smaller, &tcp, &udp));
            }
        }
    }

    #[test]
    fn a_new_life_a_second_dial_and_a_quiet_session_make_room() {
        for we_are_smaller in [true, false] {
            for old in [OURS, THEIRS] {
                let reborn = Candidate {
                    instance: [2; 16],
                    ..THEIRS
                };
                assert!(!old_stays(we_are_smaller, &old, &reborn));
                let again = Candidate { ..old };
                assert!(!old_stays(we_are_smaller, &old, &again));
                let quiet = Candidate { quiet: true, ..old };
                assert!(!old_stays(we_are_smaller, &quiet, &OURS));
                assert!(!old_stays(we_are_smaller, &quiet, &THEIRS));
            }
        }
    }
}
