//! Quotas of streams: what the gauges say of them, and a warning while there is time to act.

use super::Gateway;
use crate::observe::metrics;
use crate::outbox::QuotaUse;
use culvert_proto::StreamId;
use std::collections::BTreeSet;

/// A warning is due once so many percent are used. By eye: a fifth of what somebody chose for an outage is left.
const ALARM_PERCENT: u64 = 80;

/// The warning is over below so many: a stream that hovers around the mark is told of once.
const OVER_PERCENT: u64 = 50;

/// The streams of which it was said that they come near their quota.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<StreamId>);

/// What there is to say of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It comes near its quota.
    Fills,
    /// It does not any more.
    Drained,
}

impl Alarms {
    fn look(&mut self, stream: &StreamId, quota: &QuotaUse) -> Option<News> {
        let used = u128::from(quota.used_bytes) * 100;
        let percent = |percent: u64| u128::from(quota.quota_bytes) * u128::from(percent);
        if used >= percent(ALARM_PERCENT) {
            self.0.insert(stream.clone()).then_some(News::Fills)
        } else if used < percent(OVER_PERCENT) {
            self.0.remove(stream).then_some(News::Drained)
        } else {
            None
        }
    }
}

impl Gateway {
    /// The fullest stream and those that wait, of each connector with a quota.
    pub(super) fn look_at_quotas(&self) {
        let mut alarms = self.quota_alarms.lock();
        let limited = self.config.connectors.iter();
        for connector in limited.filter(|connector| connector.quota.is_some()) {
            let (mut waits, mut fullest) = (0u32, 0.0f64);
            for stream in self.streams_of(connector) {
                let Some(quota) = stream.quota_use() else { continue };
                #[expect(clippy::cast_precision_loss)] // gauges are floats
                let used = quota.used_bytes as f64 / quota.quota_bytes as f64;
                fullest = fullest.max(used);
                waits += u32::from(!quota.has_room && stream.is_read_here());
                match alarms.look(&stream.id, &quota) {
                    Some(News::Fills) => tracing::warn!(
                        code = "CULVERT-O021",
                        connector = connector.name,
                        stream = %stream.id,
                        held_bytes = quota.used_bytes,
                        quota_bytes = quota.quota_bytes,
                        "a stream comes near its quota: there it is read no further, and nothing is dropped"
                    ),
                    Some(News::Drained) => {
                        tracing::info!(connector = connector.name, stream = %stream.id, "the stream is far from its quota again");
                    }
                    None => {}
                }
            }
            let of = [connector.name.as_str()];
            metrics::STREAMS_AT_QUOTA.with(&of).set(f64::from(waits));
            metrics::QUOTA_USED.with(&of).set(fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::Lineage;

    fn stream(partition: u32) -> StreamId {
        StreamId {
            site: "site1".into(),
            topic: "orders".into(),
            partition,
            lineage: Lineage::Replayable {
                cluster: "cluster".into(),
                topic: [7; 16],
            },
        }
    }

    /// What is said at each look at so many of 1,000 bytes.
    fn check(looks: &[(u64, Option<News>)]) {
        let mut alarms = Alarms::default();
        for (used_bytes, expected) in looks {
            let quota = QuotaUse {
                used_bytes: *used_bytes,
                quota_bytes: 1_000,
                has_room: true,
            };
            assert_eq!(
                alarms.look(&stream(0), &quota),
                *expected,
                "{used_bytes} in {looks:?}"
            );
            let empty = QuotaUse {
                used_bytes: 0,
                ..quota
            };
            assert_eq!(alarms.look(&stream(1), &empty), None, "of another stream");
        }
    }

    #[test]
    fn a_stream_near_its_quota_is_told_of_once_until_it_has_drained() {
        check(&[
            (0, None),
            (799, None),
            (800, Some(News::Fills)),
            (1_000, None),
            (790, None),
        ]);
        check(&[(5_000, Some(News::Fills)), (500, None), (800, None)]);
        check(&[
            (900, Some(News::Fills)),
            (499, Some(News::Drained)),
            (0, None),
            (900, Some(News::Fills)),
        ]);
    }
}
