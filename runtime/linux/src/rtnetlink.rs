//! rtnetlink(7): network devices and their addresses.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
/// Of `struct nlmsghdr`, `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtattr`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// Since Linux 5.13; older kernels choose an index themselves when this one is taken.
const IFLA_NEW_IFINDEX: u16 = 49;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// What was asked for; the others tell what became of it: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
const IFA_F_WISHES: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// A socket that speaks to the network namespace in which it was opened.
pub struct Route(OwnedFd);

/// A permanent address of global scope, ready to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A message in the making.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(fixed);
        Message(bytes)
    }

    fn about_link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut fixed = [0; LINK];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
        fixed[12..].copy_from_slice(&change.to_ne_bytes());
        Message::new(kind, NLM_F_ACK, &fixed)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn named(self, name: &str) -> Self {
        self.with(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The first part and the rest, where the part says its own length. None at the end, or of what makes no sense.
fn split(bytes: &[u8], length: usize, header: usize) -> Option<(&[u8], &[u8])> {
    let part = bytes.get(..length).filter(|part| part.len() >= header)?;
    Some((part, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Kind and value of each attribute.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((one, rest)) = u16_at(bytes, 0).and_then(|length| split(bytes, length.into(), ATTRIBUTE)) {
        found.push((u16_at(one, 2).unwrap_or_default(), &one[ATTRIBUTE..]));
        bytes = rest;
    }
    found
}

/// The addresses of the device with index `of` in bytes that the kernel answers.
pub fn addresses_in(answer: &[u8], of: u32) -> Vec<Address> {
    let mut payloads = Vec::new();
    // What stands before an error was answered all the same.
    let _ = collect(answer, &mut payloads);
    payloads.iter().filter_map(|payload| address(payload, of)).collect()
}

/// An answer that can be carried to another device; None of those that come and go by themselves.
fn address(payload: &[u8], of: u32) -> Option<Address> {
    let &[family, prefix, flags, scope, ..] = payload else { return None };
    let all = attributes(payload.get(ADDRESS..)?);
    let flags =
        all.iter().find(|(kind, _)| *kind == IFA_FLAGS).map_or(Some(flags.into()), |(_, v)| u32_at(v, 0))?;
    if u32_at(payload, 4)? != of || flags & IFA_F_PERMANENT == 0 || scope != RT_SCOPE_UNIVERSE {
        return None;
    }
    let kept = all.into_iter().filter(|(kind, _)| [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST].contains(kind));
    let mut attributes: Vec<_> = kept.map(|(kind, value)| (kind, value.to_vec())).collect();
    attributes.push((IFA_FLAGS, (flags & IFA_F_WISHES).to_ne_bytes().to_vec()));
    Some(Address { family, prefix, attributes })
}

/// Adds the payloads of what came in one piece; the end or acknowledgement if it was in there.
fn collect(mut rest: &[u8], answers: &mut Vec<Vec<u8>>) -> Option<Result<(), Errno>> {
    while let Some((one, more)) = u32_at(rest, 0).and_then(|length| split(rest, length as usize, HEADER)) {
        match u16_at(one, 4) {
            Some(NLMSG_DONE) => return Some(Ok(())),
            Some(NLMSG_ERROR) => {
                return Some(match u32_at(one, HEADER).map(|e| (e as i32).wrapping_neg()) {
                    Some(0) => Ok(()),
                    Some(errno) => Err(Errno::from_raw(errno)),
                    None => Err(Errno::EBADMSG),
                });
            }
            _ => answers.push(one[HEADER..].to_vec()),
        }
        rest = more;
    }
    None
}

impl Route {
    /// Opens one in the current network namespace.
    pub fn open() -> Result<Self, Errno> {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
        socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Route)
    }

    /// Sends a request; returns the payloads of what is answered before its end or acknowledgement.
    fn ask(&self, mut message: Message) -> Result<Vec<Vec<u8>>, Errno> {
        let length = message.0.len() as u32;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        let fd = self.0.as_raw_fd();
        sendto(fd, &message.0, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answers = Vec::new();
        // A dump's parts are at most 32 KiB each (net/netlink/af_netlink.c).
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = recv(fd, &mut buffer, MsgFlags::empty())?;
            if let Some(end) = collect(&buffer[..n], &mut answers) {
                return end.map(|()| answers);
            }
        }
    }

    /// The device of that name: its index, and whether it is up. ENODEV: there is none.
    pub fn find(&self, name: &str) -> Result<(u32, bool), Errno> {
        let answers = self.ask(Message::about_link(libc::RTM_GETLINK, 0, 0, 0).named(name))?;
        let link = answers.first().ok_or(Errno::ENODEV)?;
        let (index, flags) = u32_at(link, 4).zip(u32_at(link, 8)).ok_or(Errno::EBADMSG)?;
        Ok((index, flags & libc::IFF_UP as u32 != 0))
    }

    /// The name of the device of that index. ENODEV: there is none.
    pub fn name_of(&self, index: u32) -> Result<String, Errno> {
        let answers = self.ask(Message::about_link(libc::RTM_GETLINK, index, 0, 0))?;
        let all = answers.first().and_then(|link| link.get(LINK..)).map(attributes).unwrap_or_default();
        let name = all.iter().find(|(kind, _)| *kind == IFLA_IFNAME).ok_or(Errno::ENODEV)?.1;
        Ok(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
    }

    /// The device's permanent addresses of global scope.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let answers = self.ask(Message::new(libc::RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS]))?;
        Ok(answers.iter().filter_map(|answer| address(answer, index)).collect())
    }

    /// Moves a device into another network namespace, under this name (which may have a `%d` for the first free
    /// number) and this index. It is down then, without addresses.
    pub fn move_away(
        &self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: Option<&str>,
        new_index: u32,
    ) -> Result<(), Errno> {
        let fd = namespace.as_raw_fd() as u32;
        let mut message =
            Message::about_link(libc::RTM_NEWLINK, index, 0, 0).with(IFLA_NET_NS_FD, &fd.to_ne_bytes());
        if new_index != index {
            message = message.with(IFLA_NEW_IFINDEX, &new_index.to_ne_bytes());
        }
        if let Some(name) = name {
            message = message.named(name);
        }
        self.ask(message).map(drop)
    }

    /// Brings a device up.
    pub fn set_up(&self, index: u32) -> Result<(), Errno> {
        let up = libc::IFF_UP as u32;
        self.ask(Message::about_link(libc::RTM_NEWLINK, index, up, up)).map(drop)
    }

    /// Gives a device an address.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<(), Errno> {
        let mut fixed = [address.family, address.prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let message = Message::new(libc::RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, &fixed);
        let all = address.attributes.iter();
        self.ask(all.fold(message, |message, (kind, value)| message.with(*kind, value))).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_by_name_and_index() {
        let route = Route::open().unwrap();
        assert_eq!(route.find("lo").map(|(index, _)| index), Ok(1));
        assert_eq!(route.name_of(1), Ok("lo".to_owned()));
        assert_eq!(route.find("no-such-device"), Err(Errno::ENODEV));
        // Its addresses are of host scope.
        assert_eq!(route.addresses(1), Ok(Vec::new()));
    }

    #[test]
    fn what_makes_no_sense_ends_the_list() {
        assert_eq!(attributes(&[3, 0, 1, 0]), []);
        assert_eq!(attributes(&[0; 8]), []);
        assert_eq!(attributes(&[200, 0, 1, 0, 9]), []);
        assert_eq!(attributes(&[5, 0, 7, 0, 9]), [(7, &[9][..])]);
    }
}
