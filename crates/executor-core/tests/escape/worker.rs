//! Starts a hostile worker the way the supervisor starts workers, and tells what became of it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use shared::wire::codec::{self, HEADER_BYTES, Header};
use shared::wire::frame::{FromWorker, HelloParent, HelloWorker, PROTOCOL_VERSION, ToWorker};
use shared::wire::worker::Layers;

/// A worker that is ready and about to attack.
pub(crate) struct Hostile {
    child: Child,
    _stream: UnixStream,
    /// What it could put up of the layers it was told to.
    pub(crate) held: Layers,
}

impl Hostile {
    pub(crate) fn start(layers: Layers, attack: &str, target: &str) -> Self {
        let layers = layers.names().collect::<Vec<_>>().join(",");
        let parent = std::process::id().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
        command.args([&parent, &layers, attack, target]).env_clear();
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let (mut stream, theirs) = UnixStream::pair().unwrap();
        let child = command
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command holds the other end of the socket, whose closing must be noticed.
        drop(command);
        let mut hello = Vec::new();
        let body = HelloWorker { protocol: PROTOCOL_VERSION, slots: 1, image_cache_bytes: 1 << 20 };
        codec::encode(&mut hello, ToWorker::Hello as u8, 0, 0, &body);
        stream.write_all(&hello).unwrap();
        let mut header = [0; HEADER_BYTES];
        if let Err(error) = stream.read_exact(&mut header) {
            let seen = child.wait_with_output().unwrap();
            panic!("no hello ({error}), {}: {}", seen.status, String::from_utf8_lossy(&seen.stderr));
        }
        let header = Header::decode(header).unwrap();
        assert_eq!(header.kind, FromWorker::Hello as u8);
        let mut body = vec![0; header.body_bytes as usize];
        stream.read_exact(&mut body).unwrap();
        let hello: HelloParent = codec::decode_body(&body).unwrap();
        Self { child, _stream: stream, held: hello.layers }
    }

    /// Waits until the worker says that it did something, without ending.
    pub(crate) fn wait_for_word(&mut self) -> String {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut word = Vec::new();
        while !word.ends_with(b"\n") {
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "it ended after {word:?}");
            word.push(byte[0]);
        }
        String::from_utf8(word).unwrap().trim().to_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// How it ended: the signal that ended it, or what the attack came to.
    pub(crate) fn seen(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        if let Some(signal) = output.status.signal() {
            return Signal::try_from(signal).map_or_else(|_| signal.to_string(), |name| name.to_string());
        }
        let seen = words.lines().rev().find_map(|line| line.strip_prefix("seen "));
        seen.map_or_else(|| format!("{}, {words}", output.status), ToOwned::to_owned)
    }
}
