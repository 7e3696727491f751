//! How bytes of one schema are read as values of another, worked out once for a pair of schemas.
//!
//! The rules are those of the specification's "Schema Resolution". A mismatch is no mistake of the plan: it is a fault
//! of the data that reaches it, since a union may never hold the branch that does not fit. Two rules are stricter than
//! the specification, because data would silently change its meaning: types that both have a logical type must have the
//! same one.

use crate::encode::default_bytes;
use crate::schema::{Enum, Key, Kind, Logical, Name, Record, Schema, TypeId, Unit};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub(crate) struct Plan {
    pub(crate) writer: Rc<Schema>,
    pub(crate) steps: Vec<Step>,
    pub(crate) root: StepId,
    /// The reader's own encoding, in which defaults are kept. Only where there are defaults.
    pub(crate) defaults: Option<Box<Plan>>,
}

pub(crate) type StepId = u32;

/// What is read next, and as what.
#[derive(Debug)]
pub(crate) enum Step {
    Null,
    Boolean,
    Int,
    Long,
    IntAsFloat,
    LongAsFloat {
        single: bool,
    },
    Float,
    FloatAsDouble,
    Double,
    Text,
    Bytes,
    Fixed(usize),
    Decimal {
        size: Option<usize>,
        scale: i32,
    },
    Uuid,
    Duration,
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp {
        unit: Unit,
        local: bool,
    },
    Enum(Box<[Symbol]>),
    Array(StepId),
    Map(StepId),
    Record(Box<RecordStep>),
    /// The step of each branch of the writer's union.
    Union(Box<[StepId]>),
    Mismatch(Box<str>),
}

/// What the reader makes of a symbol of the writer; nothing where it has no such symbol and no default.
pub(crate) type Symbol = Option<Box<str>>;

#[derive(Debug)]
pub(crate) struct RecordStep {
    /// The writer's record.
    pub(crate) of: TypeId,
    /// In the reader's order.
    pub(crate) fields: Vec<FieldStep>,
    /// How to read on: in the order of the bytes where that is also the reader's, so that nothing is read twice.
    pub(crate) order: Order,
}

#[derive(Debug)]
pub(crate) enum Order {
    Forward(Vec<Move>),
    /// The bytes are passed over once to find where each field of the writer begins, and then read in the reader's order.
    Mixed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    /// A field that the reader does not have.
    Skip(TypeId),
    /// By its place in `fields`.
    Field(u32),
}

#[derive(Debug)]
pub(crate) struct FieldStep {
    pub(crate) key: Key,
    pub(crate) from: From,
}

#[derive(Debug)]
pub(crate) enum From {
    /// A field of the writer, by its place there.
    Bytes { at: u32, step: StepId },
    /// In the reader's encoding, read by a step of `defaults`.
    Default { bytes: Vec<u8>, step: StepId },
}

/// By eye: two schemas of a thousand types that hold each other in all ways have more, and no sense.
const STEPS_MAX: usize = 100_000;

impl Plan {
    /// # Errors
    /// When there would be too many steps.
    pub(crate) fn new(writer: &Rc<Schema>, reader: &Rc<Schema>) -> Result<Plan, String> {
        let mut resolver = Resolver {
            writer,
            reader,
            steps: Vec::new(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            defaults: None,
        };
        let root = resolver.request(writer.root, reader.root);
        while let Some((id, from, to)) = resolver.waiting.pop_front() {
            if resolver.steps.len() > STEPS_MAX {
                return Err(format!(
                    "the two schemas come together in more than {STEPS_MAX} ways"
                ));
            }
            resolver.steps[id as usize] = resolver.resolve(from, to)?;
        }
        Ok(Plan {
            writer: Rc::clone(writer),
            root,
            steps: resolver.steps,
            defaults: resolver.defaults.map(|(plan, _)| Box::new(plan)),
        })
    }

    pub(crate) fn step(&self, id: StepId) -> &Step {
        &self.steps[id as usize]
    }
}

/// Without recursion: two schemas that hold themselves can go round each other very often before they meet again.
struct Resolver<'a> {
    writer: &'a Rc<Schema>,
    reader: &'a Rc<Schema>,
    steps: Vec<Step>,
    known: BTreeMap<(TypeId, TypeId), StepId>,
    waiting: VecDeque<(StepId, TypeId, TypeId)>,
    /// The reader's own plan, with the step of each of its types.
    defaults: Option<(Plan, BTreeMap<TypeId, StepId>)>,
}

impl Resolver<'_> {
    /// The step for a type of the writer and one of the reader. It is worked out later.
    fn request(&mut self, from: TypeId, to: TypeId) -> StepId {
        let to = match self.chosen(from, to) {
            Ok(to) => to,
            Err(why) => return self.add(Step::Mismatch(why.into())),
        };
        if let Some(id) = self.known.get(&(from, to)) {
            return *id;
        }
        let id = self.add(Step::Null);
        self.known.insert((from, to), id);
        self.waiting.push_back((id, from, to));
        id
    }

    fn add(&mut self, step: Step) -> StepId {
        self.steps.push(step);
        self.steps.len() as StepId - 1
    }

    /// The branch of the reader's union that the writer's type becomes: the first that is the same, else the first that
    /// it can be promoted to.
    fn chosen(&self, from: TypeId, to: TypeId) -> Result<TypeId, String> {
        let Kind::Union(branches) = &self.reader.of(to).kind else {
            return Ok(to);
        };
        if matches!(self.writer.of(from).kind, Kind::Union(_)) {
            return Ok(to);
        }
        let nearness = |branch: &TypeId| self.nearness(from, *branch);
        let best = branches.iter().map(nearness).max().unwrap_or(Nearness::None);
        let branch = branches
            .iter()
            .find(|branch| best != Nearness::None && nearness(branch) == best);
        branch.copied().ok_or_else(|| self.mismatch(from, to))
    }

    fn nearness(&self, from: TypeId, to: TypeId) -> Nearness {
        let (from, to) = (self.writer.of(from), self.reader.of(to));
        let by_name = |from: &Name, to: &Name| match () {
            () if from.full == to.full => Nearness::Same,
            () if to.answers_to(from) => Nearness::SameButNamespace,
            () => Nearness::None,
        };
        match (&from.kind, &to.kind) {
            (Kind::Null, Kind::Null)
            | (Kind::Boolean, Kind::Boolean)
            | (Kind::Int, Kind::Int)
            | (Kind::Long, Kind::Long)
            | (Kind::Float, Kind::Float)
            | (Kind::Double, Kind::Double)
            | (Kind::Bytes, Kind::Bytes)
            | (Kind::String, Kind::String)
            | (Kind::Array(_), Kind::Array(_))
            | (Kind::Map(_), Kind::Map(_)) => Nearness::Same,
            (Kind::Record(from), Kind::Record(to)) => by_name(&from.name, &to.name),
            (Kind::Enum(from), Kind::Enum(to)) => by_name(&from.name, &to.name),
            (Kind::Fixed(from), Kind::Fixed(to)) if from.size == to.size => by_name(&from.name, &to.name),
            (Kind::Int, Kind::Long | Kind::Float | Kind::Double)
            | (Kind::Long, Kind::Float | Kind::Double)
            | (Kind::Float, Kind::Double)
            | (Kind::String, Kind::Bytes)
            | (Kind::Bytes, Kind::String) => Nearness::Promoted,
            _ => Nearness::None,
        }
    }

    fn mismatch(&self, from: TypeId, to: TypeId) -> String {
        format!(
            "{} of the writer is no {} of the reader",
            self.writer.title(from),
            self.reader.title(to)
        )
    }

    /// `to` is no union unless `from` is one too.
    fn resolve(&mut self, from: TypeId, to: TypeId) -> Result<Step, String> {
        let (writer, reader) = (self.writer, self.reader);
        if let Kind::Union(branches) = &writer.of(from).kind {
            let steps = branches.iter().map(|branch| self.request(*branch, to));
            return Ok(Step::Union(steps.collect()));
        }
        if self.nearness(from, to) == Nearness::None || !self.logical_types_agree(from, to) {
            return Ok(Step::Mismatch(self.mismatch(from, to).into()));
        }
        let logical = reader.of(to).logical;
        Ok(match (&writer.of(from).kind, &reader.of(to).kind) {
            (Kind::Null, _) => Step::Null,
            (Kind::Boolean, _) => Step::Boolean,
            (Kind::Int, Kind::Float | Kind::Double) => Step::IntAsFloat,
            (Kind::Long, Kind::Float) => Step::LongAsFloat { single: true },
            (Kind::Long, Kind::Double) => Step::LongAsFloat { single: false },
            (Kind::Int, _) => match logical {
                Some(Logical::Date) => Step::Date,
                Some(Logical::TimeMillis) => Step::TimeMillis,
                // An int that the reader takes for a long.
                Some(Logical::TimeMicros) => Step::TimeMicros,
                Some(Logical::Timestamp { unit, local }) => Step::Timestamp { unit, local },
                _ => Step::Int,
            },
            (Kind::Long, _) => match logical {
                Some(Logical::TimeMicros) => Step::TimeMicros,
                Some(Logical::Timestamp { unit, local }) => Step::Timestamp { unit, local },
                _ => Step::Long,
            },
            (Kind::Float, Kind::Double) => Step::FloatAsDouble,
            (Kind::Float, _) => Step::Float,
            (Kind::Double, _) => Step::Double,
            (Kind::Bytes | Kind::String, Kind::String) => Step::Text,
            (Kind::Bytes | Kind::String, _) => match logical {
                Some(Logical::Decimal { scale, .. }) => Step::Decimal {
                    size: None,
                    scale: scale as i32,
                },
                _ => Step::Bytes,
            },
            (Kind::Fixed(fixed), _) => match logical {
                Some(Logical::Decimal { scale, .. }) => Step::Decimal {
                    size: Some(fixed.size),
                    scale: scale as i32,
                },
                Some(Logical::Uuid) => Step::Uuid,
                Some(Logical::Duration) => Step::Duration,
                _ => Step::Fixed(fixed.size),
            },
            (Kind::Enum(from), Kind::Enum(to)) => Step::Enum(symbols(from, to)),
            (Kind::Array(from), Kind::Array(to)) => Step::Array(self.request(*from, *to)),
            (Kind::Map(from), Kind::Map(to)) => Step::Map(self.request(*from, *to)),
            (Kind::Record(written), Kind::Record(read)) => self.record(from, written, read)?,
            _ => Step::Mismatch(self.mismatch(from, to).into()),
        })
    }

    fn logical_types_agree(&self, from: TypeId, to: TypeId) -> bool {
        match (self.writer.of(from).logical, self.reader.of(to).logical) {
            (Some(Logical::Decimal { scale: from, .. }), Some(Logical::Decimal { scale: to, .. })) => {
                from == to
            }
            (Some(from), Some(to)) => from == to,
            _ => true,
        }
    }

    fn record(&mut self, of: TypeId, written: &Record, read: &Record) -> Result<Step, String> {
        let mut fields = Vec::with_capacity(read.fields.len());
        for field in &read.fields {
            let by_name = |name: &String| written.fields.iter().position(|from| from.key.text == *name);
            let at = by_name(&field.key.text).or_else(|| field.aliases.iter().find_map(by_name));
            let from = match (at, &field.default) {
                (Some(at), _) => From::Bytes {
                    at: at as u32,
                    step: self.request(written.fields[at].kind, field.kind),
                },
                (None, Some(default)) => match default_bytes(self.reader, field.kind, default) {
                    Ok(bytes) => From::Default {
                        bytes,
                        step: self.default_step(field.kind)?,
                    },
                    Err(why) => {
                        return Ok(Step::Mismatch(
                            format!("the default of `{}` in {} {why}", field.key.text, read.name.full).into(),
                        ));
                    }
                },
                (None, None) => {
                    return Ok(Step::Mismatch(
                        format!(
                            "the writer has no field `{}`, and in the reader's record {} it has no default",
                            field.key.text, read.name.full
                        )
                        .into(),
                    ));
                }
            };
            fields.push(FieldStep {
                key: field.key.clone(),
                from,
            });
        }
        let order = order(written, &fields);
        Ok(Step::Record(Box::new(RecordStep { of, fields, order })))
    }

    /// The step by which a type of the reader reads its own encoding.
    fn default_step(&mut self, kind: TypeId) -> Result<StepId, String> {
        let (plan, known) = self.defaults.get_or_insert_with(|| {
            let empty = Plan {
                writer: Rc::clone(self.reader),
                steps: Vec::new(),
                root: 0,
                defaults: None,
            };
            (empty, BTreeMap::new())
        });
        if let Some(step) = known.get(&kind) {
            return Ok(*step);
        }
        let step = plan.grow(kind)?;
        known.insert(kind, step);
        Ok(step)
    }
}

impl Plan {
    /// Adds the steps by which one type of the schema reads its own encoding, and returns the first of them.
    fn grow(&mut self, kind: TypeId) -> Result<StepId, String> {
        let mut resolver = Resolver {
            writer: &self.writer,
            reader: &self.writer,
            steps: std::mem::take(&mut self.steps),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            defaults: None,
        };
        let root = resolver.request(kind, kind);
        while let Some((id, from, to)) = resolver.waiting.pop_front() {
            if resolver.steps.len() > STEPS_MAX {
                return Err(format!("defaults take more than {STEPS_MAX} steps"));
            }
            resolver.steps[id as usize] = resolver.resolve(from, to)?;
        }
        self.steps = resolver.steps;
        Ok(root)
    }
}

/// How near a type of the reader is to one of the writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    None,
    Promoted,
    SameButNamespace,
    Same,
}

fn symbols(from: &Enum, to: &Enum) -> Box<[Symbol]> {
    let read_as = |symbol: &String| {
        let known = to.symbols.contains(symbol).then_some(symbol);
        known.or(to.default.as_ref()).map(|symbol| symbol.as_str().into())
    };
    from.symbols.iter().map(read_as).collect()
}

/// Moves in the order of the bytes, if the reader has the writer's fields in the writer's order.
fn order(written: &Record, fields: &[FieldStep]) -> Order {
    let mut moves = Vec::new();
    let mut next = 0;
    let skip = |moves: &mut Vec<Move>, from: usize, to: usize| {
        moves.extend(
            written.fields[from..to]
                .iter()
                .map(|field| Move::Skip(field.kind)),
        );
    };
    for (index, field) in fields.iter().enumerate() {
        if let From::Bytes { at, .. } = field.from {
            let at = at as usize;
            if at < next {
                return Order::Mixed;
            }
            skip(&mut moves, next, at);
            next = at + 1;
        }
        moves.push(Move::Field(index as u32));
    }
    skip(&mut moves, next, written.fields.len());
    Order::Forward(moves)
}
