//! Whose turn it is to hand a frame to a link.
//!
//! QUIC sends what it was given by priority ([`crate::link::LaneSender::set_priority`]). What it takes is limited for all
//! lanes together, and it hands that room out without asking how urgent a lane is: many lanes with a backlog would fill it
//! before the frame of an urgent one. So a lane begins no frame while one of a higher priority is at it, except after
//! [`TURN_MAX`]: a lane that its reader does not read stops no other for ever.

use culvert_proto::message::Priority;
use std::time::Duration;
use tokio::sync::watch;

/// The longest wait for a turn. By eye: long beside what a frame takes on a narrow link, and short beside the wait of an
/// operator who looks why nothing moves.
const TURN_MAX: Duration = Duration::from_secs(1);

/// How many lanes of each priority are handing a frame over, lowest first.
type Handing = [usize; 3];

/// The turns of one session.
pub(in crate::flow) struct Turns(watch::Sender<Handing>);

/// A frame is being handed over. Dropped when it is, or when its lane was given up.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    priority: Priority,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns(watch::Sender::new(Handing::default()))
    }
}

impl Turns {
    /// Waits until no lane of a higher priority is at it. Cancel safe.
    pub(super) async fn take(&self, priority: Priority) -> Turn<'_> {
        if !is_free(*self.0.borrow(), priority) {
            let mut handing = self.0.subscribe();
            let free = handing.wait_for(|handing| is_free(*handing, priority));
            // When the time is up it goes on as well; the sender lives as long as we.
            let _ = tokio::time::timeout(TURN_MAX, free).await;
        }
        self.0.send_modify(|handing| handing[rank(priority)] += 1);
        Turn {
            turns: self,
            priority,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns
            .0
            .send_modify(|handing| handing[rank(self.priority)] -= 1);
    }
}

fn is_free(handing: Handing, priority: Priority) -> bool {
    handing[rank(priority) + 1..].iter().all(|lanes| *lanes == 0)
}

fn rank(priority: Priority) -> usize {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::bench::soon;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[tokio::test]
    async fn a_lane_waits_for_more_urgent_ones_alone() {
        let turns = Turns::default();
        let first = soon("the first turn", turns.take(Priority::High)).await;
        let second = soon("one of the same priority", turns.take(Priority::High)).await;
        let mut low = pin!(turns.take(Priority::Low));
        let mut look = Context::from_waker(Waker::noop());
        assert!(low.as_mut().poll(&mut look).is_pending());
        drop(first);
        assert!(low.as_mut().poll(&mut look).is_pending(), "one is still at it");
        drop(second);
        let low = soon("the turn of the low one", low).await;
        drop(soon("one above it", turns.take(Priority::Normal)).await);
        drop(low);
        assert_eq!(*turns.0.borrow(), Handing::default());
    }

    #[tokio::test]
    async fn a_lane_that_is_stuck_stops_no_other_for_ever() {
        let turns = Turns::default();
        let _stuck = turns.take(Priority::High).await;
        drop(soon("a turn beside it", turns.take(Priority::Low)).await);
    }
}
