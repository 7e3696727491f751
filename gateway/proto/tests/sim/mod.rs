//! A world in which the machines of `culvert-proto` carry records from a replayable source to sinks, while everything
//! around them fails; and an oracle that sees all of it. One seed is one schedule: single-threaded, without a clock,
//! each choice drawn from the seed.
//!
//! - [`source`]: partitions with leader epochs, holes, retention, truncation; the consumer group.
//! - [`origin`], [`relay`], [`sink`]: how gateways drive the machines. The gateway's `flow` room does the same with
//!   threads, disks and QUIC; these three files are where to look up what a machine expects of who drives it.
//! - [`outbox`], [`net`], [`store`]: disks, links and sinks that fail. [`wire`]: frames as real bytes, and flipped bits.
//! - [`faults`]: what goes wrong. [`oracle`]: what must hold all the same. [`world`]: one step at a time.

#![allow(unreachable_pub)] // shared by a test and an example, each of which is a crate of its own

pub mod faults;
pub mod net;
pub mod oracle;
pub mod origin;
pub mod outbox;
pub mod relay;
pub mod rng;
pub mod sink;
pub mod source;
pub mod store;
pub mod trace;
pub mod wire;
pub mod world;

use oracle::Violation;
use trace::Stats;
use world::World;

/// How one schedule went.
pub struct Outcome {
    pub hash: u64,
    pub stats: Stats,
    pub failure: Option<Failure>,
}

pub struct Failure {
    #[allow(dead_code)] // only the test of the traps reads it
    pub violation: Violation,
    /// What to show a person: seed, topology, step, what was seen, the last steps, how to replay it.
    pub report: String,
}

/// Steps within which all must be delivered once faults have ended. The longest of 300,000 schedules took
/// 12,350.
pub const CALM_STEPS_MAX: u64 = 60_000;

/// Runs the schedule of `seed`. `loud` prints each step.
pub fn run(seed: u64, loud: bool) -> Outcome {
    let mut world = World::new(seed, loud);
    let steps = world.topology.steps;
    for _ in 0..steps {
        step(&mut world);
        if world.violation.is_some() {
            return outcome(seed, world);
        }
    }
    world.calm_down();
    let began = world.trace.step;
    while !world.is_settled() {
        if world.trace.step - began > CALM_STEPS_MAX {
            let left = unsettled(&world);
            world.violated("L1", left);
        } else {
            step(&mut world);
        }
        if world.violation.is_some() {
            return outcome(seed, world);
        }
    }
    world.stats.calm_steps_max = world.trace.step - began;
    world.check_end();
    outcome(seed, world)
}

fn step(world: &mut World) {
    world.step();
    if world.violation.is_none() {
        world.check_applied();
    }
}

fn outcome(seed: u64, mut world: World) -> Outcome {
    world.stats.schedules = 1;
    let failure = world.violation.take().map(|violation| Failure {
        report: format!(
            "seed {seed}: {} violated at step {}: {}\n{:?}\nthe last steps:\n{}replay: cargo run -p culvert-proto --example simulate -- --seed {seed} --trace\n",
            violation.invariant,
            world.trace.step,
            violation.seen,
            world.topology,
            world.trace.last(),
        ),
        violation,
    });
    Outcome {
        hash: world.trace.hash,
        stats: world.stats,
        failure,
    }
}

/// What is not as it should be at the end, for a person.
fn unsettled(world: &World) -> String {
    let mut text = String::from("not everything is delivered:");
    for partition in &world.partitions {
        let stream = partition.stream;
        let owner = world.a[partition.owner].streams.get(&stream);
        let at: Vec<_> = world
            .stores
            .iter()
            .map(|s| {
                s.streams
                    .get(&stream)
                    .and_then(|c| Some(c.position.as_ref()?.at.0))
            })
            .collect();
        text += &format!(
            "\n  stream {stream}: source [{}, {}), sinks at {at:?}, group {:?}, owner A{}: {owner:?}",
            partition.log_start,
            partition.end(),
            world.group.committed.get(&stream),
            partition.owner,
        );
    }
    for (b, relay) in world.b.iter().enumerate() {
        text += &format!("\n  B{b}: {:?}", relay.queues);
    }
    text
}
