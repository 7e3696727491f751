//! A codec that is opened with one schema, and what it does in place of an answer.

use crate::plugin::testing::settings::Setting;
use crate::plugin::testing::subject::{Refusal, Subject, Time};
use culvert_host::{Codec, Converted, Payloads, Prepared, Schema, StageFault};
use culvert_proto::columns::Rejection;

/// What became of one payload.
pub(super) type Told = Result<Vec<u8>, Rejection>;

/// What must not be.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: &'static str,
    pub(super) text: String,
    /// The bytes at which it was.
    pub(super) payloads: Vec<Vec<u8>>,
}

impl Fault {
    pub(super) fn new(kind: &'static str, text: impl Into<String>) -> Fault {
        Fault {
            kind,
            text: text.into(),
            payloads: Vec::new(),
        }
    }
}

pub(super) struct Bench {
    codec: Codec,
    schema: Option<Prepared>,
}

impl Bench {
    pub(super) fn open(subject: &Subject, settings: &[Setting], time: Time) -> Result<Bench, Refusal> {
        Ok(Bench {
            codec: subject.codec(settings, time)?,
            schema: None,
        })
    }

    /// Shows it a schema, as a registry would that gives the first number.
    pub(super) fn prepare(&mut self, text: &str) -> Result<(), Rejection> {
        let schema = Schema {
            id: 1,
            subject: "test-value".to_owned(),
            version: 1,
            text: text.to_owned(),
            ..Schema::default()
        };
        let not_opened = |fault: StageFault| Rejection {
            code: "not-opened".to_owned(),
            reason: format!("{fault:?}"),
            field: None,
        };
        self.schema = Some(self.codec.prepare(schema).map_err(not_opened)??);
        Ok(())
    }

    pub(super) fn json_of(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Told>, Fault> {
        self.convert(payloads, |codec, schema, payloads| {
            codec.to_json(schema, schema, payloads)
        })
    }

    pub(super) fn bytes_of(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Told>, Fault> {
        self.convert(payloads, Codec::from_json)
    }

    /// Bytes to values, and these to bytes.
    pub(super) fn by_tree(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Told>, Fault> {
        let schema = self.schema()?;
        let (ends, bytes) = joined(payloads);
        let shown = Payloads {
            ends: &ends,
            bytes: &bytes,
        };
        let mut told = Vec::with_capacity(payloads.len());
        let decoded = self.codec.decode(schema, schema, shown);
        for tree in decoded.map_err(|fault| failed(fault, payloads))? {
            told.push(match tree {
                Ok(tree) => {
                    let encoded = self.codec.encode(schema, std::slice::from_ref(&tree));
                    encoded.map_err(|fault| failed(fault, payloads))?.remove(0)
                }
                Err(why) => Err(why),
            });
        }
        self.check_faults_at(payloads, &told)?;
        Ok(told)
    }

    /// # Errors
    /// Where it did not come back from a call.
    pub(super) fn check_faults(&self) -> Result<(), Fault> {
        self.check_faults_at(&[], &[])
    }

    fn check_faults_at(&self, payloads: &[Vec<u8>], told: &[Told]) -> Result<(), Fault> {
        let usage = self.codec.meter().usage();
        let kind = match (usage.traps, usage.timeouts, usage.memory_faults) {
            (0, 0, 0) => return Ok(()),
            (0, 0, _) => "it takes too much memory",
            (0, _, _) => "it does not come back in time",
            _ => "it traps, or its answer is not valid",
        };
        let poison = told.iter().zip(payloads).find_map(|(told, bytes)| match told {
            Err(why) if why.code.starts_with("plugin-") => Some((why.reason.clone(), bytes.clone())),
            _ => None,
        });
        let (text, payloads) = match poison {
            Some((reason, bytes)) => (reason, vec![bytes]),
            None => ("no payload alone does it".to_owned(), payloads.to_vec()),
        };
        Err(Fault {
            payloads,
            ..Fault::new(kind, text)
        })
    }

    fn schema(&self) -> Result<Prepared, Fault> {
        self.schema
            .ok_or_else(|| Fault::new("no schema was prepared", "the test's own fault"))
    }

    fn convert(
        &mut self,
        payloads: &[Vec<u8>],
        call: impl Fn(&mut Codec, Prepared, Payloads<'_>) -> Result<Converted, StageFault>,
    ) -> Result<Vec<Told>, Fault> {
        let schema = self.schema()?;
        let (ends, bytes) = joined(payloads);
        let shown = Payloads {
            ends: &ends,
            bytes: &bytes,
        };
        let converted = call(&mut self.codec, schema, shown).map_err(|fault| failed(fault, payloads))?;
        let mut rejections = converted.rejections.into_iter().peekable();
        let mut told: Vec<Told> = Vec::with_capacity(payloads.len());
        let mut start = 0;
        for (at, end) in (0u32..).zip(&converted.ends) {
            let end = *end as usize;
            told.push(match rejections.next_if(|(rejected, _)| *rejected == at) {
                Some((_, why)) => Err(why),
                None => Ok(converted.bytes.get(start..end).unwrap_or_default().to_vec()),
            });
            start = end;
        }
        self.check_faults_at(payloads, &told)?;
        Ok(told)
    }
}

/// A call that failed as a whole.
fn failed(fault: StageFault, payloads: &[Vec<u8>]) -> Fault {
    let (kind, text) = match fault {
        StageFault::Retry { reason, .. } => ("a payload is to be tried again for ever (retry)", reason),
        StageFault::Stop { reason, .. } => (
            "a payload ends the task (fatal) where it should be rejected",
            reason,
        ),
    };
    Fault {
        payloads: payloads.to_vec(),
        ..Fault::new(kind, text)
    }
}

/// Many as one, and where each ends.
fn joined(payloads: &[Vec<u8>]) -> (Vec<u32>, Vec<u8>) {
    let mut end = 0u32;
    let ends = payloads.iter().map(|payload| {
        end = end.saturating_add(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        end
    });
    (ends.collect(), payloads.concat())
}
