use anyhow::bail;
use std::time::{Duration, Instant};

/// How often a condition is looked at: often enough that no test feels it, rarely enough to leave the cores alone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within `deadline`: "waited 5s for `what`".
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    if let Err(late) = wait_for(deadline, what, || condition().then_some(())) {
        panic!("{late}");
    }
}

/// Waits until `look` finds something and returns it.
///
/// # Errors
/// When nothing is found within `deadline`; says how long and for `what`.
pub fn wait_for<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if started.elapsed() >= deadline {
            bail!("waited {deadline:?} for {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let found = wait_for(Duration::from_secs(5), "third look", || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!(found.unwrap(), "here");
    }

    #[test]
    #[should_panic(expected = "for a blue moon")]
    fn a_condition_that_never_comes_true_names_itself() {
        wait_until(Duration::ZERO, "a blue moon", || false);
    }
}
