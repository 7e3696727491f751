//! Every record arrives once, unchanged and in order, whatever fails on the way.

use crate::line::Plan;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn records_cross_two_links_unchanged() -> anyhow::Result<()> {
    let plan = Plan::new("unchanged");
    plan.source().create(3, &[])?;
    plan.source().write(3, 0, 5_000)?;
    let line = plan.start()?;
    let verdict = line.judge(DEADLINE)?;
    assert!(verdict.is_exactly_once() && verdict.sent == 5_000, "{verdict}");
    for gateway in line.gateways() {
        gateway.assert_no_unlisted_alarms(&[]);
    }
    Ok(())
}
