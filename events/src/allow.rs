//! Where a function's outgoing HTTP calls may go.
//!
//! Two questions are asked of every call. [`HttpOrigin::matches`]: does the manifest name this scheme, host and port?
//! [`is_public`], [`Destinations::permits`]: is the *resolved* address one that may be reached? The second stops a name
//! the manifest allows from leading into the platform's own network, whoever controls that name (SSRF, DNS rebinding).

use crate::manifest::{Allow, as_text, is_host_name};
use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// One entry of `allow.http`: a scheme, a host (exact, `*.` and a domain, or `*` for any) and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpOrigin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Any,
    /// Any number of labels before this domain, but not the domain itself.
    Below(String),
    Name(String),
    Address(IpAddr),
}

/// Why a text is no entry of `allow.http`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an HTTP server: {reason}; write `https://api.example.com`, `https://*.example.com` or `http://127.0.0.1:9000`"
)]
pub struct InvalidOrigin {
    pub text: String,
    pub reason: &'static str,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for HttpOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |reason| InvalidOrigin { text: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(invalid("the scheme is `http` or `https`")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(invalid("it names a server, not a path or a user"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("the port is 1 to 65535"))?)
            }
            _ => (authority, scheme.default_port()),
        };
        let name = |name: &str| {
            if is_host_name(name) {
                Ok(name.to_ascii_lowercase())
            } else {
                Err(invalid("the host is no host name or address"))
            }
        };
        let host = if host == "*" {
            Host::Any
        } else if let Some(domain) = host.strip_prefix("*.") {
            Host::Below(name(domain)?)
        } else if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Host::Address(IpAddr::V6(address.parse().map_err(|_| invalid("the host is no host name or address"))?))
        } else if let Ok(address) = host.parse::<Ipv4Addr>() {
            Host::Address(IpAddr::V4(address))
        } else {
            Host::Name(name(host)?)
        };
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            Host::Any => f.write_str("*"),
            Host::Below(domain) => write!(f, "*.{domain}"),
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

as_text!(HttpOrigin, "HttpOrigin", {
    "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
    "examples": ["https://api.example.com", "https://*.example.com", "http://127.0.0.1:9000"],
});

impl HttpOrigin {
    /// Whether a request for this scheme, host (as a URI writes it, so an IPv6 address in brackets) and port is covered.
    pub fn matches(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let port = port.unwrap_or(self.scheme.default_port());
        if !scheme.eq_ignore_ascii_case(self.scheme.as_str()) || port != self.port {
            return false;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.host {
            Host::Any => true,
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(domain) => {
                let (len, tail) = (host.len(), domain.len());
                // Bytes, not `str` slices: a host may hold anything, and a slice could cut a character in two.
                len > tail + 1
                    && host.as_bytes()[len - tail - 1] == b'.'
                    && host.as_bytes()[len - tail..].eq_ignore_ascii_case(domain.as_bytes())
            }
            Host::Address(address) => parse_address(host) == Some(*address),
        }
    }
}

/// The address a URI's host is, if it is one and not a name.
pub fn parse_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Whether an address belongs to the public internet (the IANA special-purpose address registries, RFC 6890).
///
/// IPv6 addresses that embed an IPv4 one (mapped, compatible, NAT64, 6to4) are judged by that one, since that is where the packet goes.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT, RFC 6598
                || (a == 192 && b == 0 && c == 0) // IETF protocol assignments
                || (a == 198 && (18..20).contains(&b)) // benchmarking, RFC 2544
                || a >= 240) // reserved
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let embedded = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            };
            if let Some(v4) = v6.to_ipv4() {
                return is_public(IpAddr::V4(v4)); // mapped or compatible; `::1` becomes 0.0.0.1
            }
            match s {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
                [0x64, 0xff9b, 1, ..] => false, // local-use NAT64, RFC 8215
                [0x2002, high, low, ..] => embedded(high, low),
                [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false, // documentation
                [0x2001, 0..=0x01ff, ..] => false, // IETF protocol assignments, Teredo among them
                // What is left of global unicast, 2000::/3: everything else (unique local, link-local, site-local,
                // multicast, discard, unassigned) is none.
                [first, ..] => first & 0xe000 == 0x2000,
            }
        }
    }
}

/// The addresses a function's calls may reach: public ones, and the private ones its manifest names.
#[derive(Debug, Clone, Default)]
pub struct Destinations {
    origins: Vec<HttpOrigin>,
    networks: Vec<IpNet>,
}

impl Destinations {
    pub fn new(allow: &Allow) -> Self {
        let mut networks = allow.networks.clone();
        let origins = allow.http.clone().unwrap_or_default();
        for origin in &origins {
            match &origin.host {
                Host::Address(address) => networks.push(IpNet::from(*address)),
                Host::Name(name) if name == "localhost" => {
                    networks.push(IpNet::from_str("127.0.0.0/8").expect("a valid network"));
                    networks.push(IpNet::from_str("::1/128").expect("a valid network"));
                }
                _ => {}
            }
        }
        Self { origins, networks }
    }

    /// Whether the manifest names this server.
    pub fn names(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.origins.iter().any(|origin| origin.matches(scheme, host, port))
    }

    /// Whether this resolved address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> HttpOrigin {
        text.parse().unwrap()
    }

    #[test]
    fn origins_are_read_and_written() {
        for text in [
            "https://api.stripe.com",
            "http://*.example.com:8080",
            "https://*",
            "http://127.0.0.1:9000",
            "http://[::1]:80",
        ] {
            let written = origin(text).to_string();
            assert_eq!(origin(&written), origin(text), "{text}");
        }
        assert_eq!(origin("HTTPS://API.Stripe.com:443/").to_string(), "https://api.stripe.com");
        for bad in [
            "api.stripe.com",
            "ftp://a.b",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a:0",
            "https://a:99999",
            "https://*a.com",
            "https://a.*.com",
            "http://[::1",
            "https://ä.com",
            "https://a?b",
        ] {
            assert!(bad.parse::<HttpOrigin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_covers_what_it_names_and_nothing_else() {
        let api = origin("https://api.example.com");
        assert!(api.matches("https", "API.example.com", None));
        assert!(api.matches("https", "api.example.com.", Some(443)));
        assert!(!api.matches("http", "api.example.com", None));
        assert!(!api.matches("https", "api.example.com", Some(8443)));
        assert!(!api.matches("https", "api.example.com.evil.com", None));
        let below = origin("https://*.example.com");
        assert!(below.matches("https", "a.example.com", None) && below.matches("https", "a.b.example.com", None));
        for host in ["example.com", ".example.com", "evilexample.com", "example.com.evil.com", "ä.com"] {
            assert!(!below.matches("https", host, None), "{host}");
        }
        assert!(origin("http://[::1]:80").matches("http", "[0:0::1]", None));
    }

    #[test]
    fn private_addresses_are_refused_in_every_disguise() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "2a00::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn naming_an_address_permits_it_and_no_other() {
        let allow = Allow {
            http: Some(vec![
                origin("http://10.0.0.5:80"),
                origin("http://localhost:9000"),
                origin("https://internal.example.com"),
            ]),
            networks: vec!["192.168.7.0/24".parse().unwrap()],
            ..Allow::default()
        };
        let destinations = Destinations::new(&allow);
        for yes in ["10.0.0.5", "::ffff:10.0.0.5", "127.0.0.1", "::1", "192.168.7.9", "1.1.1.1"] {
            assert!(destinations.permits(yes.parse().unwrap()), "{yes}");
        }
        for no in ["10.0.0.6", "192.168.8.1", "169.254.169.254", "fe80::1"] {
            assert!(!destinations.permits(no.parse().unwrap()), "{no}");
        }
        assert!(Destinations::new(&Allow::default()).permits("1.1.1.1".parse().unwrap()));
        assert!(!Destinations::new(&Allow::default()).names("https", "example.com", None));
    }
}
