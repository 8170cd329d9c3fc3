//! A small DNS server, so that the resolver under test asks a real one.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record, RecordType};

/// Texts by name, without the final dot.
type Texts = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// Answers questions for text records until it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    texts: Texts,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, texts) = (socket.local_addr().unwrap(), Texts::default());
        let served = Arc::clone(&texts);
        std::thread::spawn(move || serve(&socket, &served));
        Self { address, texts }
    }

    /// Makes the name have these texts.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.texts.lock().unwrap().insert(name.to_owned(), texts);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // What is no question ends the server.
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", self.address);
    }
}

fn serve(socket: &UdpSocket, texts: &Texts) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(asked) = Message::from_vec(&buffer[..length]) else { return };
        let _ = socket.send_to(&answer(&asked, texts).to_vec().unwrap(), from);
    }
}

fn answer(asked: &Message, texts: &Texts) -> Message {
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let Some(query) = asked.queries.first() else { return reply };
    reply.add_query(query.clone());
    let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
    match texts.lock().unwrap().get(&name) {
        Some(texts) if query.query_type() == RecordType::TXT => {
            for text in texts {
                // A record is made of strings of at most 255 bytes; a long text comes in pieces.
                let (head, tail) = text.split_at(text.len().min(20));
                let data = RData::TXT(TXT::new(vec![head.to_owned(), tail.to_owned()]));
                reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
        }
        Some(_) => {}
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply
}
