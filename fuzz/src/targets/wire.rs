//! Bytes of links and outboxes: `culvert-proto`'s decoders.

use culvert_proto::batch::{BatchView, Compression, NoCompression};
use culvert_proto::checksum::crc32c;
use culvert_proto::frame::{self, FrameView};
use culvert_proto::message::{self, LaneHeader, Message};
use culvert_proto::{Sequence, StreamId, limits};

/// A frame, and the records behind any place of it.
pub(super) fn frame(bytes: &[u8]) {
    read_frame(bytes);
    if let Some(sealed) = sealed(bytes, bytes.len().saturating_sub(4)) {
        read_frame(&sealed);
    }
}

fn read_frame(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<4>() {
        let _ = frame::announced(*head);
    }
    let Ok(frame) = FrameView::parse(bytes) else {
        return;
    };
    let stream = frame.stream();
    assert!(frame.is_of(&stream), "a frame is of the stream that it names");
    let interval = frame.interval();
    assert!(interval.from < interval.to, "a frame covers something");
    let _ = frame.schemas().len();
    let middle = Sequence(interval.from.0 + (interval.to.0 - interval.from.0) / 2);
    for at in [interval.from, middle, interval.to] {
        let _ = frame.guard_before(at);
        let mut scratch = Vec::new();
        if let Ok(records) = frame.records(at, &mut scratch, &NoCompression) {
            let _ = (records.seam(), records.guard());
            for (sequence, _) in records.map_while(Result::ok) {
                assert!(
                    sequence >= at && sequence < interval.to,
                    "a record lies in its frame"
                );
            }
        }
    }
}

/// A control message and a lane's header; what was read is written and read again.
pub(super) fn message(bytes: &[u8]) {
    read_message(bytes);
    if let Some(sealed) = sealed(bytes, bytes.len().saturating_sub(4)) {
        read_message(&sealed);
    }
}

fn read_message(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<4>() {
        let _ = (message::announced(*head), LaneHeader::announced(*head));
    }
    if let Ok(Some(message)) = Message::decode(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again).expect("what was read can be written");
        assert_eq!(Message::decode(&again), Ok(Some(message)));
    }
    if let Ok(header) = LaneHeader::decode(bytes) {
        let mut again = Vec::new();
        header.encode(&mut again).expect("what was read can be written");
        assert_eq!(LaneHeader::decode(&again), Ok(header));
    }
}

/// A stream's identity: equal bytes are equal streams, so there is one spelling.
pub(super) fn stream(bytes: &[u8]) {
    if let Ok(stream) = StreamId::decode(bytes) {
        let again = stream.encode().expect("what was read can be written");
        assert_eq!(again, bytes, "a stream has one spelling");
    }
}

/// Record batches, one behind the other.
pub(super) fn batch(bytes: &[u8]) {
    read_batches(bytes, &NoCompression);
}

/// Walks all batches and their records, also under a checksum that is put right.
pub(super) fn read_batches(bytes: &[u8], compression: &dyn Compression) {
    let mut rest = bytes;
    while let Ok((batch, behind)) = BatchView::parse(rest) {
        read_records(&batch, compression);
        rest = behind;
    }
    let mut whole = bytes.to_vec();
    let (Some(length), Some(covered)) = (
        u32::try_from(bytes.len().saturating_sub(12)).ok(),
        bytes.get(21..),
    ) else {
        return;
    };
    whole[8..12].copy_from_slice(&length.to_be_bytes());
    whole[17..21].copy_from_slice(&crc32c(covered).to_be_bytes());
    if let Ok((batch, _)) = BatchView::parse(&whole) {
        read_records(&batch, compression);
    }
}

fn read_records(batch: &BatchView<'_>, compression: &dyn Compression) {
    let mut scratch = Vec::new();
    let Ok(records) = batch.records(&mut scratch, compression, limits::FRAME_BYTES_MAX) else {
        return;
    };
    let mut next = batch.base();
    for (sequence, record) in records.map_while(Result::ok) {
        assert!(
            sequence >= next && sequence <= batch.last(),
            "records are in order"
        );
        next = sequence.next();
        let _ = (record.crc32c(), record.headers.iter().count());
    }
}

/// The bytes with a length that is theirs and a checksum that is right, both of four bytes.
fn sealed(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let body = bytes.len().checked_sub(4).filter(|body| *body >= 4)?;
    let mut sealed = bytes[..body].to_vec();
    sealed[..4].copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
    let crc = crc32c(&sealed);
    sealed.extend_from_slice(&crc.to_be_bytes());
    Some(sealed)
}
