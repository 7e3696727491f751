//! The codecs of Kafka's record batches, as its Java client writes and reads them.
//!
//! - What is decompressed is limited while it grows: a batch of a few bytes cannot take more than `max`.
//! - Snappy comes in the framing of `snappy-java` (xerial), and from librdkafka without any; both are read, and the
//!   framed one, which every client understands, is written.
//! - LZ4 is written with independent blocks: the Java client reads no others.

use culvert_proto::batch::{Codec, Compression};
use culvert_proto::wire::{self, Malformed};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::io::{self, Read, Write};

/// All codecs of Kafka's record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codecs {
    /// 1 (fast) to 9 (small).
    pub gzip_level: u32,
    /// 1 (fast) to 22 (small); negative levels are faster still.
    pub zstd_level: i32,
}

/// The fastest level of each codec: what a link saves by the next one rarely pays for its processor time.
impl Default for Codecs {
    fn default() -> Codecs {
        Codecs {
            gzip_level: 1,
            zstd_level: 1,
        }
    }
}

impl Compression for Codecs {
    fn compress(&self, codec: Codec, input: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let written = match codec {
            Codec::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Codec::Gzip => self.gzip(input, out),
            Codec::Snappy => snappy(input, out),
            Codec::Lz4 => lz4(input, out),
            Codec::Zstd => self.zstd(input, out),
        };
        written.map_err(|_| Malformed::Invalid {
            what: "records",
            why: "cannot be compressed",
        })
    }

    fn decompress(&self, codec: Codec, input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match codec {
            Codec::None => read_limited(input, "records", max, out),
            Codec::Gzip => read_limited(MultiGzDecoder::new(input), "gzip records", max, out),
            Codec::Snappy => unsnappy(input, max, out),
            Codec::Lz4 => read_limited(FrameDecoder::new(input), "lz4 records", max, out),
            Codec::Zstd => {
                let decoder = zstd::Decoder::with_buffer(input).map_err(|_| damaged("zstd records"))?;
                read_limited(decoder, "zstd records", max, out)
            }
        }
    }
}

impl Codecs {
    fn gzip(&self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut encoder = GzEncoder::new(out, flate2::Compression::new(self.gzip_level.min(9)));
        encoder.write_all(input)?;
        encoder.finish().map(|_| ())
    }

    fn zstd(&self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(&zstd::bulk::compress(input, self.zstd_level)?);
        Ok(())
    }
}

fn lz4(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let layout = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(layout, out);
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)?;
    Ok(())
}

/// Reads to the end, at most `max` bytes.
fn read_limited(
    reader: impl Read,
    what: &'static str,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let one_more = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let size = reader
        .take(one_more)
        .read_to_end(out)
        .map_err(|_| damaged(what))?;
    if size > max {
        Err(Malformed::TooLarge { what, size, max })
    } else {
        Ok(())
    }
}

const fn damaged(what: &'static str) -> Malformed {
    Malformed::Invalid {
        what,
        why: "cannot be decompressed",
    }
}

/// What `snappy-java` begins each stream with: its magic, its version, and the oldest version that can read it.
const XERIAL_HEAD: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// The first eight bytes of [`XERIAL_HEAD`]; versions may differ.
const XERIAL_MAGIC: &[u8] = XERIAL_HEAD.first_chunk::<8>().expect("the head is longer");

/// Bytes of input in one block, as `snappy-java` does it.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn snappy(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_HEAD);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = out.len();
        let at = length_at + 4;
        out.resize(at + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder
            .compress(block, &mut out[at..])
            .map_err(io::Error::other)?;
        out.truncate(at + length);
        let length = u32::try_from(length).map_err(io::Error::other)?;
        out[length_at..at].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn unsnappy(input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    const WHAT: &str = "snappy records";
    if !input.starts_with(XERIAL_MAGIC) {
        return unsnappy_block(input, max, out);
    }
    let start = out.len();
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(XERIAL_MAGIC) {
            wire::take(&mut rest, XERIAL_HEAD.len(), WHAT)?; // streams may stand one behind the other
            continue;
        }
        let length: u32 = wire::take_int(&mut rest, WHAT)?;
        let block = wire::take(&mut rest, length as usize, WHAT)?;
        unsnappy_block(block, max - (out.len() - start), out)?;
    }
    Ok(())
}

fn unsnappy_block(block: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    const WHAT: &str = "snappy records";
    let size = snap::raw::decompress_len(block).map_err(|_| damaged(WHAT))?;
    if size > max {
        return Err(Malformed::TooLarge {
            what: WHAT,
            size,
            max,
        });
    }
    let at = out.len();
    out.resize(at + size, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[at..]);
    if written.is_ok_and(|written| written == size) {
        Ok(())
    } else {
        Err(damaged(WHAT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::Sequence;
    use culvert_proto::batch::{BatchBuilder, parse_all};
    use culvert_proto::record::{Headers, RecordRef};

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Codecs::default().compress(codec, input, &mut out).unwrap();
        out
    }

    fn decompressed(codec: Codec, input: &[u8], max: usize) -> Result<Vec<u8>, Malformed> {
        let mut out = b"before".to_vec();
        Codecs::default().decompress(codec, input, max, &mut out)?;
        assert!(out.starts_with(b"before"), "what was there stays");
        Ok(out.split_off(6))
    }

    /// Compressible, and larger than any codec's block.
    fn text() -> Vec<u8> {
        (0..40_000u32)
            .flat_map(|n| (n / 3).to_string().into_bytes())
            .collect()
    }

    #[test]
    fn each_codec_gives_back_what_it_took() {
        for codec in ALL {
            for input in [&text()[..], b"", b"a", &text()[..XERIAL_BLOCK_BYTES]] {
                let output = decompressed(codec, &compressed(codec, input), input.len());
                assert!(output.is_ok_and(|output| output == input), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 8 * 1024 * 1024];
        for codec in ALL {
            let bomb = compressed(codec, &zeros);
            let refused = decompressed(codec, &bomb, 1000);
            assert!(
                matches!(refused, Err(Malformed::TooLarge { .. })),
                "{codec:?}: {refused:?}"
            );
            assert!(decompressed(codec, &bomb, zeros.len() - 1).is_err(), "{codec:?}");
            assert!(decompressed(codec, &bomb, zeros.len()).is_ok(), "{codec:?}");
        }
    }

    #[test]
    fn garbage_and_bytes_cut_short_are_refused() {
        let garbage: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(73)).collect();
        for codec in ALL.into_iter().skip(1) {
            assert!(decompressed(codec, &garbage, 1_000_000).is_err(), "{codec:?}");
            let whole = compressed(codec, &text());
            // An LZ4 stream may lack its end mark of four bytes, as a batch says how many records there are.
            for cut in [whole.len() - 5, whole.len() / 2, 17, 3] {
                let is_whole = decompressed(codec, &whole[..cut], 1_000_000).is_ok_and(|out| out == text());
                assert!(!is_whole, "{codec:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn snappy_is_read_framed_bare_and_twice_in_a_row() {
        let bare = [3, 2 << 2, b'a', b'b', b'c']; // the length, a literal of three bytes
        let mut framed = XERIAL_HEAD.to_vec();
        framed.extend([0, 0, 0, 5]);
        framed.extend(bare);
        assert_eq!(decompressed(Codec::Snappy, &bare, 3).unwrap(), b"abc");
        assert_eq!(decompressed(Codec::Snappy, &framed, 3).unwrap(), b"abc");
        assert_eq!(
            decompressed(Codec::Snappy, &framed.repeat(2), 6).unwrap(),
            b"abcabc"
        );
        assert!(
            decompressed(Codec::Snappy, &framed.repeat(2), 5).is_err(),
            "the limit is for all of it"
        );
        assert_eq!(compressed(Codec::Snappy, b"abc"), framed);
    }

    #[test]
    fn a_batch_of_each_codec_is_read_back_and_smaller() {
        let value = text();
        let record = RecordRef {
            timestamp: 5,
            key: Some(b"k"),
            value: Some(&value),
            headers: Headers::NONE,
        };
        let mut log = Vec::new();
        for codec in ALL {
            let mut builder = BatchBuilder::new(0, Sequence(10));
            (10..13).for_each(|at| builder.push(Sequence(at), &record).unwrap());
            let batch = builder
                .finish(Sequence(13), 1, 0, codec, &Codecs::default())
                .unwrap();
            assert!(codec == Codec::None || batch.len() < value.len() * 2, "{codec:?}");
            log.extend(batch);
        }
        let mut scratch = Vec::new();
        for (codec, batch) in ALL.into_iter().zip(parse_all(&log)) {
            let batch = batch.unwrap();
            assert_eq!(batch.codec(), codec);
            let records = batch
                .records(&mut scratch, &Codecs::default(), log.len() * 4)
                .unwrap();
            let records: Result<Vec<_>, _> = records.collect();
            assert_eq!(
                records.unwrap(),
                [10, 11, 12].map(|at| (Sequence(at), record)),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn records_that_would_grow_stay_as_they_are() {
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(b"x"),
            headers: Headers::NONE,
        };
        let mut builder = BatchBuilder::new(0, Sequence(0));
        builder.push(Sequence(0), &record).unwrap();
        let batch = builder
            .finish(Sequence(1), 1, 0, Codec::Gzip, &Codecs::default())
            .unwrap();
        assert_eq!(parse_all(&batch).next().unwrap().unwrap().codec(), Codec::None);
    }
}
