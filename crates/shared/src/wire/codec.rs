//! Frames as bytes: a fixed header, then a postcard body.
//!
//! ```text
//! u32 body length | u8 kind | u8 zero | u16 slot | u32 generation | body      (little-endian)
//! ```
//!
//! A reader looks at the header first and decides by kind, slot and the slot's state how long a
//! body it accepts, before it takes in a single byte of it.

use serde::{Deserialize, Serialize};

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = 12;

/// Everything known of a frame before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub body_bytes: u32,
    pub kind: u8,
    /// Which of the worker's slots the frame is about; 0 when it is about none.
    pub slot: u16,
    /// Which execution of that slot: frames of an earlier one are recognised.
    pub generation: u32,
}

/// Bytes that are no frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the header's reserved byte is not zero")]
    Reserved,
    #[error("the body does not decode")]
    Body,
    #[error("bytes follow the body")]
    Trailing,
}

impl Header {
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [a, b, c, d, kind, reserved, e, f, g, h, i, j] = bytes;
        if reserved != 0 {
            return Err(FrameError::Reserved);
        }
        Ok(Self {
            body_bytes: u32::from_le_bytes([a, b, c, d]),
            kind,
            slot: u16::from_le_bytes([e, f]),
            generation: u32::from_le_bytes([g, h, i, j]),
        })
    }

    /// The first whole header in `bytes`, if one is there.
    pub fn peek(bytes: &[u8]) -> Option<Result<Self, FrameError>> {
        bytes.first_chunk().map(|header| Self::decode(*header))
    }
}

/// Appends a frame to `out`.
///
/// # Panics
/// When the body is over 4 GiB, which the limits of every field exclude.
pub fn encode<B: Serialize>(out: &mut Vec<u8>, kind: u8, slot: u16, generation: u32, body: &B) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    encode_body(out, body);
    set_body_bytes(out, start, 0);
}

/// Lets the frame that begins at `start`, the last one in `out`, end with a byte string of so many bytes, which the
/// caller has follow. It is the last field of the body, and empty there so far.
///
/// # Panics
/// As [`encode`].
pub fn announce(out: &mut Vec<u8>, start: usize, bytes: usize) {
    let length = out.pop();
    debug_assert_eq!(length, Some(0), "the body ends with an empty byte string");
    // As postcard writes it in front of the bytes.
    encode_body(out, &bytes);
    set_body_bytes(out, start, bytes);
}

/// Writes the length of the body that begins in `out`, of which so many bytes follow.
fn set_body_bytes(out: &mut [u8], start: usize, following: usize) {
    let body_bytes = out.len() - start - HEADER_BYTES + following;
    let body_bytes = u32::try_from(body_bytes).expect("a frame body is far below 4 GiB");
    out[start..start + 4].copy_from_slice(&body_bytes.to_le_bytes());
}

/// Appends a value without a header, as the guest's arguments are.
///
/// # Panics
/// Never: writing to memory does not fail, and no type of ours refuses to serialize.
pub fn encode_body<B: Serialize>(out: &mut Vec<u8>, body: &B) {
    postcard::serialize_with_flavor(body, Append(out)).expect("serializing plain data to memory cannot fail");
}

/// Decodes a body that must take up all of `bytes`.
pub fn decode_body<'a, B: Deserialize<'a>>(bytes: &'a [u8]) -> Result<B, FrameError> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Ok(body),
        Ok(_) => Err(FrameError::Trailing),
        Err(_) => Err(FrameError::Body),
    }
}

/// Serializes onto the end of a buffer that is kept between frames.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
