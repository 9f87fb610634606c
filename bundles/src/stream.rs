//! A layer's blob as the tar archive within: read, checked and decompressed by a thread of its own, so that the disk
//! need not wait for the arithmetic.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::digest::{Checked, Expected};
use crate::image::{Layer, Packing};
use crate::progress::Progress;
use crate::source::Source;

/// Bytes that cross to the other thread at once, and how many such pieces may wait there.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;
/// What the size of a tar archive is a multiple of.
const BLOCK: usize = 512;

/// Hands a layer's tar archive to `apply`. What that leaves unread is read all the same, because both digests, of what
/// is stored and of what is within, are only known at the end.
///
/// # Errors
/// The blob is missing, damaged or cut short; or what `apply` says.
pub fn of<T>(
    source: &Source,
    layer: &Layer,
    progress: &Progress,
    apply: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let file = source.file(&layer.path)?.context("the blob is missing")?;
    let file = progress.watch(file);
    let (to, from) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let unpacker = scope.spawn(move || {
            let sent = unpack(file, layer, &to);
            if let Err(reason) = sent {
                // Nobody listens any more when `apply` failed first.
                let _ = to.send(Err(reason));
            }
        });
        let mut pieces = Pieces { from, piece: Vec::new(), position: 0, length: 0, failure: None };
        let applied = apply(&mut pieces);
        let rest = io::copy(&mut pieces, &mut io::sink());
        let Pieces { from, failure, .. } = pieces;
        drop(from);
        unpacker.join().ok();
        // Damage is the cause of whatever apply then stumbled over.
        match (failure, applied, rest) {
            (Some(reason), ..) => Err(reason),
            (None, applied, Ok(_)) => applied,
            (None, applied, Err(e)) => applied.and(Err(e.into())),
        }
    })
}

/// The other thread's work.
fn unpack(file: Box<dyn Read + Send>, layer: &Layer, to: &SyncSender<Result<Vec<u8>>>) -> Result<()> {
    let mut stored = BufReader::with_capacity(PIECE, Checked::new(file, layer.digest.as_ref()));
    let packing = match layer.packing {
        Some(packing) => packing,
        None => guess(&mut stored)?,
    };
    let stored = match packing {
        Packing::Plain => send(stored, &layer.diff_id, to)?,
        Packing::Gzip => send(MultiGzDecoder::new(stored), &layer.diff_id, to)?.into_inner(),
        Packing::Zstd => send(Frames::new(stored), &layer.diff_id, to)?.stored,
    };
    stored.into_inner().verify().map(drop)
}

fn guess(stored: &mut impl BufRead) -> Result<Packing> {
    Ok(match stored.fill_buf()? {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::Plain,
    })
}

fn send<R: Read>(archive: R, diff_id: &Expected, to: &SyncSender<Result<Vec<u8>>>) -> Result<R> {
    let mut archive = Checked::new(archive, Some(diff_id));
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        archive.by_ref().take(PIECE as u64).read_to_end(&mut piece).context("decompress")?;
        if piece.is_empty() || to.send(Ok(piece)).is_err() {
            break;
        }
    }
    archive.verify()
}

/// zstd's frames, one after the other (RFC 8878, section 3): some tools write one for each file, and some of them hold
/// no data.
struct Frames<R> {
    stored: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(stored: R) -> Self {
        Frames { stored, decoder: FrameDecoder::new(), inside: false }
    }

    /// Goes to the next frame with data; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        while !self.stored.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.stored) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.stored.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.inside {
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
                if !self.decoder.is_finished() {
                    let strategy = BlockDecodingStrategy::UptoBytes(PIECE);
                    self.decoder.decode_blocks(&mut self.stored, strategy).map_err(io::Error::other)?;
                    continue;
                }
            }
            self.inside = self.next()?;
            if !self.inside {
                return Ok(0);
            }
        }
    }
}

/// What comes from the other thread.
struct Pieces {
    from: Receiver<Result<Vec<u8>>>,
    piece: Vec<u8>,
    position: usize,
    /// Bytes so far.
    length: usize,
    failure: Option<anyhow::Error>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.piece.len() {
            match self.from.recv() {
                Ok(Ok(piece)) => {
                    self.length += piece.len();
                    (self.piece, self.position) = (piece, 0);
                }
                Ok(Err(reason)) => {
                    let text = format!("{reason:#}");
                    self.failure = Some(reason);
                    return Err(io::Error::other(text));
                }
                // umoci 0.4 leaves out what fills the last block. Nothing else can be missing: the digests were right.
                Err(_) if !self.length.is_multiple_of(BLOCK) => {
                    (self.piece, self.position) = (vec![0; BLOCK - self.length % BLOCK], 0);
                    self.length = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let left = &self.piece[self.position..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.position += length;
        Ok(length)
    }
}
