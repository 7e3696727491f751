//! Where UDP does not pass, links go over TLS on TCP if both ends allow it, and come back to UDP by themselves.

use crate::cluster::{Load, Tail};
use crate::line::{CUTS, Line, Plan, status};
use culvert_tests::figures::figure;
use culvert_tests::{Gateway, TcpProxy, wait_for};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

const PARTITIONS: i32 = 3;

#[test]
fn records_cross_over_tcp_while_udp_is_blocked_and_over_udp_again_when_it_passes() -> anyhow::Result<()> {
    let plan = (1..=3).fold(Plan::new("fallback"), |plan, gateway| {
        plan.setting(gateway, "tunnel.fallback = \"tcp\"")
    });
    plan.source().create(PARTITIONS, &[])?;
    let (topic, target) = (plan.source(), plan.target());
    let line = plan.prepare()?;
    let west = TcpProxy::raw_at(line.west.address(), line.tunnel)?;
    let east = TcpProxy::raw_at(line.east.address(), line.tunnel)?;
    line.west.cut();
    line.east.cut();
    line.launch()?;
    over(&line, true)?;

    let load = Load::start(&topic, PARTITIONS, 0, 500);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    tail.until(1_000, DEADLINE)?;

    // TCP breaks too, as a firewall's table of connections does that is cleared.
    for proxy in [&west, &east] {
        proxy.cut();
        proxy.heal();
    }
    tail.until(tail.records.len() as u64 + 1_000, DEADLINE)?;
    line.relay.kill9()?;
    line.relay.launch()?;
    tail.until(tail.records.len() as u64 + 1_000, DEADLINE)?;

    line.west.heal();
    line.east.heal();
    let since = Instant::now();
    over(&line, false)?;
    let climbed = since.elapsed();
    tail.until(tail.records.len() as u64 + 1_000, DEADLINE)?;

    line.west.cut();
    line.east.cut();
    let since = Instant::now();
    over(&line, true)?;
    let fell = since.elapsed();
    tail.until(tail.records.len() as u64 + 1_000, DEADLINE)?;
    let verdict = line.judge_load(load, DEADLINE)?;
    line.assert_no_unlisted_alarms(&[CUTS, &["link up over TCP"]].concat());
    figure(&format!(
        "fallback: {verdict}; over TCP {:.1} s after UDP is blocked, over UDP {:.1} s after it passes",
        fell.as_secs_f64(),
        climbed.as_secs_f64()
    ));
    Ok(())
}

/// Waits until the links of both ends go over TCP, or do not.
fn over(line: &Line, tcp: bool) -> anyhow::Result<()> {
    let is_so = |gateway: &Gateway| {
        let status = status(gateway).ok()?;
        let peer = &status["peers"][0];
        (peer["up"] == true && peer["over_tcp"] == tcp).then_some(())
    };
    let measured = if tcp { 1.0 } else { 0.0 };
    wait_for(DEADLINE, "the metric", || {
        let over_tcp = line.first.metric("culvert_link_over_tcp").ok()?;
        (over_tcp == measured).then_some(())
    })?;
    wait_for(
        DEADLINE,
        if tcp { "links over TCP" } else { "links over UDP" },
        || is_so(&line.first).and(is_so(&line.last)),
    )
}
