//! Which addresses scripts may not reach: their own machine, its network, and what is nobody's.
//!
//! A script is a stranger's code, and the server stands beside routers, printers and databases that
//! believe whoever is on their network. Only what the whole world can reach may be reached from here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Why an address is refused. Scripts are told this much and never the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Loopback,
    Private,
    LinkLocal,
    Multicast,
    Reserved,
    /// An address of this machine.
    Own,
    /// The operator said so.
    Denied,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Own => "this server",
            Self::Denied => "denied by the operator",
        })
    }
}

/// IANA's special-purpose registries, as far as nothing public is behind them.
const SPECIAL: [(&str, Category); 27] = [
    ("0.0.0.0/8", Category::Loopback),
    ("127.0.0.0/8", Category::Loopback),
    ("10.0.0.0/8", Category::Private),
    ("100.64.0.0/10", Category::Private),
    ("172.16.0.0/12", Category::Private),
    ("192.168.0.0/16", Category::Private),
    ("169.254.0.0/16", Category::LinkLocal),
    ("192.0.0.0/24", Category::Reserved),
    ("192.0.2.0/24", Category::Reserved),
    ("192.88.99.0/24", Category::Reserved),
    ("198.18.0.0/15", Category::Reserved),
    ("198.51.100.0/24", Category::Reserved),
    ("203.0.113.0/24", Category::Reserved),
    ("224.0.0.0/4", Category::Multicast),
    ("240.0.0.0/4", Category::Reserved),
    ("::/128", Category::Loopback),
    ("::1/128", Category::Loopback),
    ("fc00::/7", Category::Private),
    ("fec0::/10", Category::Private),
    // Translates to IPv4 at the network's own discretion, private addresses included.
    ("64:ff9b:1::/48", Category::Private),
    ("fe80::/10", Category::LinkLocal),
    ("ff00::/8", Category::Multicast),
    ("100::/64", Category::Reserved),
    ("2001::/23", Category::Reserved),
    ("2001:db8::/32", Category::Reserved),
    ("3fff::/20", Category::Reserved),
    ("5f00::/16", Category::Reserved),
];

static NETWORKS: LazyLock<Vec<(IpNet, Category)>> = LazyLock::new(|| {
    SPECIAL.iter().map(|(net, category)| (net.parse().expect("each is a network"), *category)).collect()
});

/// What the operator and the machine add to what holds everywhere.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Networks that may be reached although they are not public. What is said below goes before.
    pub allow_private: Vec<IpNet>,
    /// Networks that may not be reached although they are public.
    pub deny: Vec<IpNet>,
    /// The machine's own addresses.
    pub own: Vec<IpAddr>,
    /// Where this server, its database and its mail server listen: never, whatever is allowed.
    pub listeners: Vec<SocketAddr>,
    /// Those of them that are given by name, with their ports: what is behind a name changes.
    pub named_listeners: Vec<(String, u16)>,
}

impl Addresses {
    /// Why this name may not be asked for, whatever is behind it; none when its addresses decide.
    pub(crate) fn refusal_by_name(&self, host: &str, port: u16) -> Option<Category> {
        let bare = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        let is_listener = |(name, at): &(String, u16)| *at == port && bare(name) == bare(host);
        self.named_listeners.iter().any(is_listener).then_some(Category::Own)
    }

    /// Why this address may not be reached; none when it may.
    pub(crate) fn refusal(&self, address: SocketAddr) -> Option<Category> {
        let ip = address.ip();
        let mut forms = std::iter::once(ip).chain(embedded(ip).map(IpAddr::V4));
        forms.find_map(|ip| self.refusal_of(ip, address.port()))
    }

    fn refusal_of(&self, ip: IpAddr, port: u16) -> Option<Category> {
        let contains = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
        // Whoever listens on one of the machine's addresses mostly does so on all of them.
        let is_mine = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || self.own.contains(&ip);
        let is_listener = |listener: &SocketAddr| {
            let is_here = listener.ip() == ip || (is_mine(listener.ip()) && is_mine(ip));
            is_here && listener.port() == port
        };
        if self.listeners.iter().any(is_listener) {
            return Some(Category::Own);
        }
        if contains(&self.deny) {
            return Some(Category::Denied);
        }
        if contains(&self.allow_private) {
            return None;
        }
        if let Some((_, category)) = NETWORKS.iter().find(|(net, _)| net.contains(&ip)) {
            // The unspecified forms of IPv4 in IPv6 are looked at by what is in them.
            return Some(*category);
        }
        self.own.contains(&ip).then_some(Category::Own)
    }
}

/// The IPv4 address that an IPv6 address leads to, if it does.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let bytes = ip.octets();
    let at = |start: usize| Ipv4Addr::new(bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]);
    let [first, second, rest @ ..] = ip.segments();
    match (first, second) {
        // 6to4.
        (0x2002, _) => Some(at(2)),
        // NAT64, RFC 6052.
        (0x64, 0xff9b) if rest[..4] == [0; 4] => Some(at(12)),
        // Mapped and, of old, compatible.
        (0, 0) if rest[..3] == [0; 3] && matches!(rest[3], 0 | 0xffff) && !is_plain(ip) => Some(at(12)),
        _ => None,
    }
}

/// `::` and `::1` are addresses of their own.
fn is_plain(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.is_loopback()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(ip: &str) -> Option<Category> {
        Addresses::default().refusal(SocketAddr::new(ip.parse().unwrap(), 80))
    }

    #[test]
    fn attack_ipv6_spellings_of_private_addresses_are_seen_through() {
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert_eq!(refusal(ip), Some(Category::Loopback), "{ip}");
        }
        for ip in ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00:ec2::254", "2002:c0a8:101::"]
        {
            assert_eq!(refusal(ip), Some(Category::Private), "{ip}");
        }
        for ip in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"] {
            assert_eq!(refusal(ip), Some(Category::LinkLocal), "{ip}");
        }
        for ip in ["224.0.0.1", "255.255.255.255", "192.0.2.1", "2001:db8::1", "2001::1", "100::1", "ff02::1"]
        {
            assert!(refusal(ip).is_some(), "{ip}");
        }
        for ip in ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"] {
            assert_eq!(refusal(ip), None, "{ip}");
        }
    }

    #[test]
    fn the_operators_word_goes_before_and_listeners_are_never_reached() {
        let rules = Addresses {
            allow_private: ["127.0.0.0/8", "203.0.114.8/29"].map(|net| net.parse().unwrap()).to_vec(),
            deny: vec!["1.1.1.0/24".parse().unwrap()],
            own: ["203.0.114.9", "8.8.8.8"].map(|ip| ip.parse().unwrap()).to_vec(),
            listeners: vec!["127.0.0.1:5432".parse().unwrap(), "0.0.0.0:8080".parse().unwrap()],
            named_listeners: Vec::new(),
        };
        let refusal = |address: &str| rules.refusal(address.parse().unwrap());
        assert_eq!(refusal("127.0.0.1:80"), None);
        assert_eq!(refusal("203.0.114.9:80"), None);
        assert_eq!(refusal("[::ffff:127.0.0.1]:5432"), Some(Category::Own));
        // What listens at one of the machine's addresses is refused at each of them.
        for address in
            ["127.0.0.1:5432", "127.0.0.2:5432", "203.0.114.9:5432", "127.0.0.1:8080", "203.0.114.9:8080"]
        {
            assert_eq!(refusal(address), Some(Category::Own), "{address}");
        }
        for address in ["8.8.8.8:80", "8.8.8.8:5432"] {
            assert_eq!(refusal(address), Some(Category::Own), "{address}");
        }
        assert_eq!(refusal("1.1.1.1:443"), Some(Category::Denied));
        assert_eq!(refusal("10.0.0.1:80"), Some(Category::Private));
    }

    #[test]
    fn a_listener_that_is_given_by_name_is_known_by_it_at_its_port_alone() {
        let named_listeners = vec![("db".to_owned(), 5432), ("SMTP.Example.org.".to_owned(), 587)];
        let rules = Addresses { named_listeners, ..Addresses::default() };
        for (host, port) in [("db", 5432), ("DB.", 5432), ("smtp.example.org", 587)] {
            assert_eq!(rules.refusal_by_name(host, port), Some(Category::Own), "{host}:{port}");
        }
        for (host, port) in [("db", 587), ("db.example.org", 5432), ("example.org", 587), ("", 587)] {
            assert_eq!(rules.refusal_by_name(host, port), None, "{host}:{port}");
        }
    }

    /// By shifting, as a slow and plain second opinion.
    fn is_special(ip: u32) -> bool {
        SPECIAL.iter().filter(|(net, _)| !net.contains(':')).any(|(net, _)| {
            let (base, bits) = net.split_once('/').unwrap();
            let base = u32::from(base.parse::<Ipv4Addr>().unwrap());
            let shift = 32 - bits.parse::<u32>().unwrap();
            ip >> shift == base >> shift
        })
    }

    proptest! {
        #[test]
        fn every_embedding_is_refused_exactly_when_the_address_is(ip: u32) {
            let v4 = Ipv4Addr::from(ip);
            let [a, b, c, d] = v4.octets();
            let words = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            let expected = is_special(ip);
            let refused = |ip: IpAddr| Addresses::default().refusal(SocketAddr::new(ip, 443)).is_some();
            prop_assert_eq!(refused(v4.into()), expected);
            prop_assert_eq!(refused(v4.to_ipv6_mapped().into()), expected);
            prop_assert_eq!(refused(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, words[0], words[1]).into()), expected);
            prop_assert_eq!(refused(Ipv6Addr::new(0x2002, words[0], words[1], 0, 0, 0, 0, 1).into()), expected);
        }
    }
}
