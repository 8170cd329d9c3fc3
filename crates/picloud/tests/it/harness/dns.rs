//! A small DNS server, so that the resolver under test asks a real one.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What is known, by name without the final dot.
#[derive(Default)]
struct Zone {
    texts: HashMap<String, Vec<String>>,
    /// What is answered to the first question for addresses, to the second, and from the last on.
    addresses: HashMap<String, VecDeque<Vec<IpAddr>>>,
    /// Names that are another name.
    aliases: HashMap<String, String>,
}

/// Answers questions for texts and addresses until it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Arc::<Mutex<Zone>>::default());
        let served = Arc::clone(&zone);
        std::thread::spawn(move || serve(&socket, &served));
        Self { address, zone }
    }

    /// Makes the name have these texts.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.zone.lock().unwrap().texts.insert(name.to_owned(), texts);
    }

    /// Makes a name another name for one.
    pub(crate) fn set_alias(&self, alias: &str, name: &str) {
        self.zone.lock().unwrap().aliases.insert(alias.to_owned(), name.to_owned());
    }

    /// Makes the name have the first addresses at the first question, then the next; for no time at all.
    pub(crate) fn set_addresses(&self, name: &str, turns: &[&[&str]]) {
        let turns = turns.iter().map(|turn| turn.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.zone.lock().unwrap().addresses.insert(name.to_owned(), turns);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // What is no question ends the server.
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", self.address);
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(asked) = Message::from_vec(&buffer[..length]) else { return };
        let _ = socket.send_to(&answer(&asked, &mut zone.lock().unwrap()).to_vec().unwrap(), from);
    }
}

fn answer(asked: &Message, zone: &mut Zone) -> Message {
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let Some(query) = asked.queries.first() else { return reply };
    reply.add_query(query.clone());
    let mut owner = query.name().clone();
    let mut name = owner.to_ascii().trim_end_matches('.').to_lowercase();
    while let Some(target) = zone.aliases.get(&name) {
        let canonical = Name::from_ascii(format!("{target}.")).unwrap();
        reply.add_answer(Record::from_rdata(owner, 0, RData::CNAME(CNAME(canonical.clone()))));
        (owner, name) = (canonical, target.clone());
    }
    if let Some(turns) = zone.addresses.get_mut(&name) {
        let asks_for_v4 = query.query_type() == RecordType::A;
        for ip in &turns[0] {
            let data = match ip {
                IpAddr::V4(ip) if asks_for_v4 => RData::A((*ip).into()),
                IpAddr::V6(ip) if query.query_type() == RecordType::AAAA => RData::AAAA((*ip).into()),
                _ => continue,
            };
            reply.add_answer(Record::from_rdata(owner.clone(), 0, data));
        }
        if asks_for_v4 && turns.len() > 1 {
            turns.pop_front();
        }
        return reply;
    }
    match zone.texts.get(&name) {
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
