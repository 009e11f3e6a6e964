//! The segments of one directory: appending, rolling, dropping by size and age.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use tracing::warn;

use crate::counters::Counters;
use crate::recover;
use crate::segment::{
    FILE_HEADER, FILE_HEADER_BYTES, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Segment, file_name, record_header,
};
use crate::{Config, Error};

/// A segment is full at this size.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// A segment is full when its records span this much time, so that dropping by age is fine-grained.
const SEGMENT_AGE_MAX_S: u64 = 600;
/// The smallest share of the store that one segment may be.
const SEGMENTS_PER_STORE_MIN: u64 = 8;
/// Segments kept in the directory and in the index.
const SEGMENTS_MAX: usize = 4096;

/// Not synchronized; [`crate::Store`] guards it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    bytes_max: u64,
    age_max_ms: i64,
    segment_bytes_max: u64,
    segment_age_max_ms: i64,
    /// By sequence, oldest first.
    segments: VecDeque<Segment>,
    /// The file of the last segment while it may still be appended to.
    active: Option<File>,
    sequence_next: u64,
    pub(crate) counters: Counters,
}

impl Log {
    /// Reads the index of an existing directory; the caller holds its lock.
    pub(crate) fn open(config: &Config, now_unix_ms: i64) -> Result<Self, Error> {
        let age_max_ms = i64::try_from(config.age_max_s.saturating_mul(1000)).unwrap_or(i64::MAX);
        // Long ages get longer segments, or SEGMENTS_MAX would cut them short.
        let segment_age_max_s = (config.age_max_s / 1000)
            .max(SEGMENT_AGE_MAX_S)
            .min((config.age_max_s / SEGMENTS_PER_STORE_MIN).max(1));
        let mut log = Self {
            path: config.path.clone(),
            bytes_max: config.bytes_max,
            age_max_ms,
            segment_bytes_max: (config.bytes_max / SEGMENTS_PER_STORE_MIN).min(SEGMENT_BYTES_MAX),
            segment_age_max_ms: i64::try_from(segment_age_max_s.saturating_mul(1000)).unwrap_or(i64::MAX),
            segments: VecDeque::new(),
            active: None,
            sequence_next: 0,
            counters: Counters::default(),
        };
        let recovered = recover::recover(&log.path, &mut log.counters)?;
        log.segments = recovered.segments.into();
        log.active = recovered.active;
        log.sequence_next = recovered.sequence_next;
        log.expire(now_unix_ms)?;
        log.make_room(0)?;
        Ok(log)
    }

    /// Writes one record. On an error nothing of it stays, and what was stored before does.
    pub(crate) fn append(
        &mut self,
        now_unix_ms: i64,
        newest_unix_ms: i64,
        payload: &[u8],
    ) -> Result<(), Error> {
        let result = self.try_append(now_unix_ms, newest_unix_ms, payload);
        if result.is_err() {
            self.counters.append_errors += 1;
        }
        result
    }

    /// Segments that may hold records of the range, oldest first.
    pub(crate) fn overlapping(&self, from_unix_ms: i64, to_unix_ms: i64) -> Vec<Segment> {
        let overlaps = |segment: &&Segment| segment.overlaps(from_unix_ms, to_unix_ms);
        self.segments.iter().filter(overlaps).cloned().collect()
    }

    /// Counts the unreadable records that a reader met in a segment, each only once.
    pub(crate) fn note_corrupt(&mut self, sequence: u64, corrupt: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.sequence == sequence) {
            self.counters.corrupt_records += corrupt.saturating_sub(segment.corrupt);
            segment.corrupt = segment.corrupt.max(corrupt);
        }
    }

    /// Drops the segments that are older than the age limit. One with a time in the future, which a clock set
    /// wrong has left, goes with the first one made after it that is too old.
    pub(crate) fn expire(&mut self, now_unix_ms: i64) -> Result<(), Error> {
        let oldest_kept = now_unix_ms.saturating_sub(self.age_max_ms);
        let last = self.segments.iter().rposition(|segment| segment.newest_unix_ms < oldest_kept);
        for at in (0..last.map_or(0, |last| last + 1)).rev() {
            let newest_unix_ms = self.segments.get(at).map_or(now_unix_ms, |segment| segment.newest_unix_ms);
            if newest_unix_ms < oldest_kept || newest_unix_ms > now_unix_ms {
                let records = self.drop_segment(at)?;
                self.counters.dropped_age_records += records;
            }
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    fn try_append(&mut self, now_unix_ms: i64, newest_unix_ms: i64, payload: &[u8]) -> Result<(), Error> {
        let record_bytes = (RECORD_HEADER_BYTES + payload.len()) as u64;
        let bytes_max = RECORD_BYTES_MAX
            .min(self.bytes_max.saturating_sub((FILE_HEADER_BYTES + RECORD_HEADER_BYTES) as u64));
        if payload.len() as u64 > bytes_max {
            let (path, bytes) = (self.path.clone(), payload.len() as u64);
            return Err(Error::TooLarge { path, bytes, bytes_max });
        }
        self.expire(now_unix_ms)?;
        self.roll_when_full(newest_unix_ms, record_bytes);
        // A file header more than may be needed.
        self.make_room(record_bytes + FILE_HEADER_BYTES as u64)?;
        let header = record_header(newest_unix_ms, payload);
        match self.active.take() {
            Some(file) => self.append_to_last(file, newest_unix_ms, &header, payload),
            None => self.append_to_new(newest_unix_ms, &header, payload),
        }
    }

    fn append_to_last(
        &mut self,
        file: File,
        newest_unix_ms: i64,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), Error> {
        let Some(segment) = self.segments.back_mut() else {
            return self.append_to_new(newest_unix_ms, header, payload);
        };
        let at = segment.bytes;
        let written =
            file.write_all_at(header, at).and_then(|()| file.write_all_at(payload, at + header.len() as u64));
        if let Err(source) = written {
            // Where even this fails, a new segment begins next time and readers stop at the known length.
            match file.set_len(at) {
                Ok(()) => self.active = Some(file),
                Err(error) => {
                    warn!(path = %segment.path.display(), %error, "cannot cut an unfinished record; a new segment follows");
                }
            }
            return Err(Error::io("append to", &segment.path, source));
        }
        segment.bytes += (header.len() + payload.len()) as u64;
        segment.note(newest_unix_ms);
        self.active = Some(file);
        Ok(())
    }

    fn append_to_new(&mut self, newest_unix_ms: i64, header: &[u8], payload: &[u8]) -> Result<(), Error> {
        let path = self.path.join(file_name(newest_unix_ms, self.sequence_next));
        let opened = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| Error::io("create", &path, source))?;
        let written = file
            .write_all_at(&FILE_HEADER, 0)
            .and_then(|()| file.write_all_at(header, FILE_HEADER_BYTES as u64))
            .and_then(|()| file.write_all_at(payload, (FILE_HEADER_BYTES + header.len()) as u64));
        if let Err(source) = written {
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "cannot remove an unfinished segment");
                self.sequence_next += 1;
            }
            return Err(Error::io("append to", &path, source));
        }
        let mut segment = Segment::new(path, newest_unix_ms, self.sequence_next);
        segment.bytes += (header.len() + payload.len()) as u64;
        segment.note(newest_unix_ms);
        self.segments.push_back(segment);
        self.sequence_next += 1;
        self.active = Some(file);
        Ok(())
    }

    fn roll_when_full(&mut self, newest_unix_ms: i64, record_bytes: u64) {
        let Some(segment) = self.segments.back() else { return };
        let span_ms = newest_unix_ms
            .max(segment.newest_unix_ms)
            .saturating_sub(newest_unix_ms.min(segment.oldest_unix_ms));
        if segment.bytes + record_bytes <= self.segment_bytes_max && span_ms < self.segment_age_max_ms {
            return;
        }
        if let Some(file) = self.active.take()
            && let Err(error) = file.sync_data()
        {
            warn!(path = %segment.path.display(), %error, "cannot make a full segment survive a power cut");
        }
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        while !self.segments.is_empty()
            && (self.bytes().saturating_add(bytes) > self.bytes_max || self.segments.len() >= SEGMENTS_MAX)
        {
            let records = self.drop_segment(0)?;
            self.counters.dropped_bytes_records += records;
        }
        Ok(())
    }

    /// The records that went with it.
    fn drop_segment(&mut self, at: usize) -> Result<u64, Error> {
        let Some(segment) = self.segments.get(at) else { return Ok(0) };
        match fs::remove_file(&segment.path) {
            Ok(()) => {}
            // Someone else's doing, and what was wanted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::io("remove", &segment.path, source)),
        }
        if at + 1 == self.segments.len() {
            self.active = None;
        }
        Ok(self.segments.remove(at).map_or(0, |segment| segment.records))
    }
}
