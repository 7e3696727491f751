use super::*;
use std::collections::BTreeMap;

/// Keeps what it gets in memory, by stream and sequence, and refuses empty values.
struct Shelf {
    rows: BTreeMap<(String, u64), Vec<u8>>,
    tokens: Vec<Token>,
}

impl Sink for Shelf {
    type Config = ();
    const ABOUT: About = About::new("shelf", "0.1.0", "Keeps messages in memory");

    fn open((): (), writer: Vec<u8>) -> Result<(Shelf, Vec<Token>), Failure> {
        match writer.len() {
            16 => Ok((
                Shelf {
                    rows: BTreeMap::new(),
                    tokens: Vec::new(),
                },
                Vec::new(),
            )),
            length => Err(Failure::fatal(format!("a writer has 16 bytes, not {length}"))),
        }
    }

    fn put(&mut self, batches: Vec<Batch>, tokens: Vec<Token>) -> Result<(), PutError> {
        let mut rows = Vec::new();
        let mut refusals = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (index, (sequence, message)) in batch.sequenced().enumerate() {
                match &message.value {
                    Some(value) if !value.is_empty() => {
                        rows.push(((batch.stream.clone(), sequence), value.clone()));
                    }
                    _ => refusals.push(Refusal::new(
                        number,
                        index,
                        Rejection::new("empty", "there is nothing"),
                    )),
                }
            }
        }
        if !refusals.is_empty() {
            return Err(PutError::Refused(refusals));
        }
        self.rows.extend(rows);
        self.tokens = tokens;
        Ok(())
    }
}

crate::export_sink!(Shelf);

fn batch(values: &[&str], sequences: &[u64]) -> Batch {
    let message = |value: &&str| Message {
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp: None,
    };
    Batch {
        stream: "s".to_owned(),
        topic: "t".to_owned(),
        partition: 0,
        from: 10,
        to: 20,
        sequences: sequences.to_vec(),
        attributes: Vec::new(),
        messages: values.iter().map(message).collect(),
    }
}

#[test]
fn messages_have_their_sequences_with_holes_and_without() {
    let sequences = |batch: &Batch| {
        batch
            .sequenced()
            .map(|(sequence, _)| sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!(sequences(&batch(&["a", "b"], &[])), [10, 11]);
    assert_eq!(sequences(&batch(&["a", "b"], &[12, 19])), [12, 19]);
}

#[test]
fn a_sink_writes_all_or_nothing() {
    let (mut shelf, tokens) = Shelf::open((), vec![0; 16]).unwrap();
    assert!(tokens.is_empty());
    shelf.put(vec![batch(&["a", "b"], &[])], Vec::new()).unwrap();
    assert_eq!(shelf.rows.len(), 2);
    let refused = shelf.put(
        vec![batch(&["c"], &[15]), batch(&["d", ""], &[16, 17])],
        Vec::new(),
    );
    assert!(matches!(refused, Err(PutError::Refused(all)) if (all[0].batch, all[0].message) == (1, 1)));
    assert_eq!(shelf.rows.len(), 2);
    assert!(Shelf::open((), Vec::new()).is_err());
}
