//! Server-sent events, read as they arrive.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line accepted. A log line is far shorter; without a bound a broken server could fill
/// the memory with one line.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    /// Id of this or the last event that had one: where to resume.
    pub(crate) id: String,
}

/// The events of a stream. Ends with the stream; a half event at its end is dropped, as the
/// specification demands.
pub(crate) struct Events<R> {
    reader: BufReader<R>,
    last_id: String,
}

impl<R: Read> Events<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), last_id: String::new() }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let count = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(None);
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            // Either the stream ended within the line or the line is over the bound.
            return if count as u64 == LINE_BYTES_MAX {
                Err(io::ErrorKind::InvalidData.into())
            } else {
                Ok(None)
            };
        }
        line.pop_if(|byte| *byte == b'\r');
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    fn event(&mut self) -> io::Result<Option<Event>> {
        let mut name = String::new();
        let mut data: Option<String> = None;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if let Some(data) = data.take() {
                    return Ok(Some(Event { name, data, id: self.last_id.clone() }));
                }
                name.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                // A comment is a heartbeat; `retry` is for browsers.
                _ => {}
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.event().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, as a slow network may.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn events(text: &str) -> Vec<Event> {
        Events::new(Drip(text.as_bytes())).map(Result::unwrap).collect()
    }

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event { name: name.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn events_are_split_at_blank_lines_whatever_the_line_ends() {
        let text =
            ": heartbeat\n\nid: 7\nevent: log\ndata: {\"a\":1}\n\nevent: end\r\ndata:x\r\ndata:y\r\n\r\n";
        assert_eq!(events(text), [event("log", "{\"a\":1}", "7"), event("end", "x\ny", "7")]);
    }

    #[test]
    fn a_half_event_at_the_end_is_dropped() {
        assert_eq!(events("data: a\n\ndata: b\n"), [event("", "a", "")]);
        assert_eq!(events("data: a"), []);
    }

    #[test]
    fn an_event_without_data_is_none() {
        assert_eq!(events("event: log\n\ndata: a\n\n"), [event("", "a", "")]);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut events = Events::new(io::repeat(b'x'));
        assert!(events.next().unwrap().is_err());
    }
}
