//! Reads the body of a stranger's answer: as it comes, no further than its limit, and unpacked no
//! further than that either.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};
use shared::limits::OUTBOUND_RESPONSE_BYTES_MAX;

use super::Refused;

/// Text seldom shrinks to a tenth; what grows a hundredfold was made to.
const RATIO_MAX: usize = 100;
/// So much may come of a few bytes: a page of one repeated line is no attack.
const RATIO_FREE_BYTES: usize = 256 << 10;

pub(super) async fn read(response: &mut reqwest::Response) -> Result<Vec<u8>, Refused> {
    if response.content_length().unwrap_or(0) > OUTBOUND_RESPONSE_BYTES_MAX as u64 {
        return Err(Refused::TooLarge);
    }
    let mut body = Body::new(response.headers());
    while let Some(chunk) = response.chunk().await.map_err(|error| Refused::exchange(&error))? {
        body.take(&chunk)?;
    }
    body.finish()
}

/// What has come, unpacked.
struct Body {
    unpack: Box<dyn Unpack + Send>,
    /// `deflate` means one of two forms, which the first byte tells apart.
    is_undecided: bool,
    /// Bytes that came over the wire.
    taken: usize,
}

impl Body {
    fn new(headers: &HeaderMap) -> Self {
        let coding = headers.get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes().trim_ascii());
        let unpack: Box<dyn Unpack + Send> = if coding.eq_ignore_ascii_case(b"gzip") {
            Box::new(MultiGzDecoder::new(Capped::default()))
        } else {
            // With another coding, which nobody asked for, the script sees its header and its bytes.
            Box::new(Capped::default())
        };
        Self { unpack, is_undecided: coding.eq_ignore_ascii_case(b"deflate"), taken: 0 }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Refused> {
        let Some(first) = chunk.first() else { return Ok(()) };
        if self.is_undecided {
            self.is_undecided = false;
            // The header of zlib names its method, 8, in its low bits.
            self.unpack = match first & 0x0f {
                8 => Box::new(ZlibDecoder::new(Capped::default())),
                _ => Box::new(DeflateDecoder::new(Capped::default())),
            };
        }
        self.taken = self.taken.saturating_add(chunk.len());
        let by_ratio = RATIO_FREE_BYTES.max(self.taken.saturating_mul(RATIO_MAX));
        self.unpack.sink().limit = OUTBOUND_RESPONSE_BYTES_MAX.min(by_ratio);
        let written = self.unpack.write_all(chunk).and_then(|()| self.unpack.flush());
        self.checked(written)
    }

    fn finish(mut self) -> Result<Vec<u8>, Refused> {
        // Answers to HEAD, and those without a body, name the coding of a body that does not come.
        if self.taken == 0 {
            return Ok(Vec::new());
        }
        let ended = self.unpack.end();
        self.checked(ended)?;
        Ok(std::mem::take(&mut self.unpack.sink().bytes))
    }

    fn checked(&mut self, written: io::Result<()>) -> Result<(), Refused> {
        if self.unpack.sink().is_full {
            return Err(Refused::TooLarge);
        }
        written.map_err(|_| Refused::Encoding)
    }
}

/// Something that unpacks what is written to it.
trait Unpack: Write {
    fn sink(&mut self) -> &mut Capped;
    /// Fails when there should have been more.
    fn end(&mut self) -> io::Result<()>;
}

impl Unpack for Capped {
    fn sink(&mut self) -> &mut Capped {
        self
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! unpack {
    ($($decoder:ty),+) => {
        $(impl Unpack for $decoder {
            fn sink(&mut self) -> &mut Capped {
                self.get_mut()
            }

            fn end(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        })+
    };
}

unpack!(MultiGzDecoder<Capped>, ZlibDecoder<Capped>, DeflateDecoder<Capped>);

/// Takes bytes up to a limit, and then no more.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn unpack(coding: &'static str, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        let mut body = Body::new(&headers);
        bytes.chunks(7).try_for_each(|chunk| body.take(chunk))?;
        body.finish()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_coding_gives_what_was_packed() {
        let text = b"what was packed, what was packed".as_slice();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(text).unwrap();
        assert_eq!(unpack("gzip", &gzip(text)).unwrap(), text);
        assert_eq!(unpack("deflate", &zlib.finish().unwrap()).unwrap(), text);
        assert_eq!(unpack("deflate", &raw.finish().unwrap()).unwrap(), text);
        assert_eq!(unpack("identity", text).unwrap(), text);
        assert_eq!(unpack("br", text).unwrap(), text);
    }

    #[test]
    fn a_body_that_does_not_come_is_empty_whatever_its_coding_is_said_to_be() {
        for coding in ["gzip", "deflate", "identity", "br"] {
            assert_eq!(unpack(coding, b"").unwrap(), b"", "{coding}");
        }
    }

    #[test]
    fn attack_a_bomb_is_given_up_by_its_ratio_and_by_its_size() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpack("gzip", &bomb), Err(Refused::TooLarge)));
        let large = vec![7; OUTBOUND_RESPONSE_BYTES_MAX + 1];
        assert!(matches!(unpack("identity", &large), Err(Refused::TooLarge)));
    }

    #[test]
    fn damaged_and_cut_streams_are_refused() {
        let packed = gzip(b"some text that is packed");
        assert!(matches!(unpack("gzip", &packed[..packed.len() / 2]), Err(Refused::Encoding)));
        assert!(matches!(unpack("gzip", &packed[..1]), Err(Refused::Encoding)));
        assert!(matches!(unpack("gzip", b"not gzip at all"), Err(Refused::Encoding)));
    }
}
