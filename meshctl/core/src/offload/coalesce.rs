//! Joins consecutive packets of a TCP flow, so that the kernel takes them as one.
//!
//! The rules are those of the kernel's own `tcp_gro_receive`: equal headers, sequence without a
//! gap, all payloads of one length but the last, and whatever cannot be joined ends its flow's
//! group, so that nothing that comes later is written before it.

use super::checksum::{Sum, seal_v4};
use super::header::{Header, Pieces};
use super::{ACK, PSH, TCP, TCP_CHECKSUM_AT, V6_HEADER_LEN, read_u16, read_u32, short, write_u16};

/// The longest joined packet, in bytes: what an IPv4 header can say.
const JOINED_MAX: usize = 65_535;
/// Protocols whose packets belong to no TCP flow: UDP and ICMP. Of others, fragments and further
/// IPv6 headers among them, only a closer look would tell.
const UDP_ICMP: [u8; 3] = [super::UDP, 1, 58];
const DONT_FRAGMENT: u8 = 0x40;

/// What is written to the device at once: `header`, packet `head`, then of each packet in `tail` the
/// bytes from `payload_at` on.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    pub header: Header,
    pub head: usize,
    pub tail: Vec<usize>,
    pub payload_at: usize,
}

/// A group that may still grow.
struct Open {
    group: usize,
    next_sequence: u32,
    piece_len: usize,
    total_len: usize,
    is_proven: bool,
    ends_with_push: bool,
}

/// Orders packets into groups; the heads of joined ones get the headers of the whole.
pub fn coalesce<P: AsRef<[u8]> + AsMut<[u8]>>(packets: &mut [P]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for index in 0..packets.len() {
        let packet = packets[index].as_ref();
        let found = Segment::parse(packet);
        let Some(segment) = found else {
            if ends_flows(packet) {
                let is_over = |one: &mut Open| {
                    same_hosts(packets[groups[one.group].head].as_ref(), packets[index].as_ref())
                };
                let over: Vec<Open> = open.extract_if(.., is_over).collect();
                for one in over {
                    finish(packets, &mut groups[one.group], &one);
                }
            }
            groups.push(Group {
                header: Header::PLAIN,
                head: index,
                tail: Vec::new(),
                payload_at: 0,
            });
            continue;
        };
        let of_flow = open
            .iter()
            .position(|one| segment.same_flow(packet, packets[groups[one.group].head].as_ref()));
        if let Some(at) = of_flow {
            let one = &mut open[at];
            let group = &mut groups[one.group];
            if one.takes(group, &segment, packet, packets) {
                one.push(group, &segment, index);
                if !one.may_grow(&segment) {
                    finish(packets, group, &open.swap_remove(at));
                }
                continue;
            }
            let ended = open.swap_remove(at);
            finish(packets, group, &ended);
        }
        let group = Group {
            header: Header::PLAIN,
            head: index,
            tail: Vec::new(),
            payload_at: segment.payload_at,
        };
        if !segment.has_push {
            open.push(Open {
                group: groups.len(),
                next_sequence: segment.sequence.wrapping_add(segment.payload_u32()),
                piece_len: segment.payload_len,
                total_len: segment.payload_at + segment.payload_len,
                is_proven: false,
                ends_with_push: false,
            });
        }
        groups.push(group);
    }
    for one in &open {
        finish(packets, &mut groups[one.group], one);
    }
    groups
}

impl Open {
    fn takes<P: AsRef<[u8]>>(
        &mut self,
        group: &Group,
        segment: &Segment,
        packet: &[u8],
        packets: &[P],
    ) -> bool {
        let head = packets[group.head].as_ref();
        let fits = segment.sequence == self.next_sequence
            && segment.payload_len <= self.piece_len
            && self.total_len + segment.payload_len <= JOINED_MAX
            && segment.follows(packet, head, group.tail.len() + 1);
        // Joined packets count as verified by us: what is not right stays alone.
        if fits && !self.is_proven {
            self.is_proven = has_valid_checksum(head, segment.transport_at);
        }
        fits && self.is_proven && has_valid_checksum(packet, segment.transport_at)
    }

    fn push(&mut self, group: &mut Group, segment: &Segment, index: usize) {
        group.tail.push(index);
        self.next_sequence = self.next_sequence.wrapping_add(segment.payload_u32());
        self.total_len += segment.payload_len;
        self.ends_with_push = segment.has_push;
    }

    fn may_grow(&self, last: &Segment) -> bool {
        !last.has_push && last.payload_len == self.piece_len
    }
}

/// A packet of TCP data that may be joined with others.
struct Segment {
    is_v6: bool,
    transport_at: usize,
    payload_at: usize,
    payload_len: usize,
    sequence: u32,
    has_push: bool,
}

impl Segment {
    fn parse(packet: &[u8]) -> Option<Self> {
        let is_v6 = match packet.first()? >> 4 {
            4 => false,
            6 => true,
            _ => return None,
        };
        let transport_at = if is_v6 { V6_HEADER_LEN } else { 20 };
        if packet.len() <= transport_at + 20 || packet.len() > JOINED_MAX {
            return None;
        }
        let is_whole_tcp = if is_v6 {
            packet[6] == TCP && usize::from(read_u16(packet, 4)) == packet.len() - V6_HEADER_LEN
        } else {
            // No options, no fragments.
            packet[0] == 0x45
                && packet[9] == TCP
                && usize::from(read_u16(packet, 2)) == packet.len()
                && read_u16(packet, 6) & !(u16::from(DONT_FRAGMENT) << 8) == 0
                && Sum::default().add(&packet[..20]).is_valid()
        };
        let offset = packet[transport_at + 12];
        let flags = packet[transport_at + 13];
        let payload_at = transport_at + usize::from(offset >> 4) * 4;
        let may_join = is_whole_tcp
            && offset << 4 == 0
            && (flags == ACK || flags == ACK | PSH)
            && payload_at >= transport_at + 20
            && payload_at < packet.len();
        may_join.then(|| Self {
            is_v6,
            transport_at,
            payload_at,
            payload_len: packet.len() - payload_at,
            sequence: read_u32(packet, transport_at + 4),
            has_push: flags & PSH != 0,
        })
    }

    fn payload_u32(&self) -> u32 {
        u32::from(short(self.payload_len))
    }

    /// Addresses and ports are those of `head`, which was parsed before.
    fn same_flow(&self, packet: &[u8], head: &[u8]) -> bool {
        let at = self.transport_at;
        same_hosts(head, packet) && head[at..at + 4] == packet[at..at + 4]
    }

    /// All that stands in the headers and is not counted on is equal.
    fn follows(&self, packet: &[u8], head: &[u8], place: usize) -> bool {
        let (at, payload_at) = (self.transport_at, self.payload_at);
        let ip_agrees = if self.is_v6 {
            head[..4] == packet[..4] && head[7] == packet[7]
        } else {
            // The identification matters only where a router may split the packet (RFC 6864).
            let counts = head[6] & DONT_FRAGMENT != 0
                || read_u16(packet, 4) == read_u16(head, 4).wrapping_add(short(place));
            head[1] == packet[1] && head[6] == packet[6] && head[8] == packet[8] && counts
        };
        ip_agrees
            && head.len() > payload_at
            && head[at + 8..at + 13] == packet[at + 8..at + 13]
            && head[at + 14..at + 16] == packet[at + 14..at + 16]
            && head[at + 18..payload_at] == packet[at + 18..payload_at]
    }
}

/// Whether a packet that cannot be joined may belong to a TCP flow that is being joined.
fn ends_flows(packet: &[u8]) -> bool {
    let protocol = match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9),
        Some(6) => packet.get(6),
        _ => None,
    };
    protocol.is_some_and(|protocol| !UDP_ICMP.contains(protocol))
}

fn same_hosts(head: &[u8], packet: &[u8]) -> bool {
    let addresses = if head[0] >> 4 == 4 { 12..20 } else { 8..40 };
    head[0] >> 4 == packet[0] >> 4 && packet.get(addresses.clone()) == Some(&head[addresses])
}

fn has_valid_checksum(packet: &[u8], transport_at: usize) -> bool {
    let transport = &packet[transport_at..];
    Sum::pseudo(packet, TCP, short(transport.len())).add(transport).is_valid()
}

/// Gives the head the headers of the whole.
fn finish<P: AsMut<[u8]>>(packets: &mut [P], group: &mut Group, done: &Open) {
    if group.tail.is_empty() {
        return;
    }
    let head = packets[group.head].as_mut();
    let is_v6 = head[0] >> 4 == 6;
    let transport_at = if is_v6 { V6_HEADER_LEN } else { 20 };
    if is_v6 {
        write_u16(head, 4, short(done.total_len - V6_HEADER_LEN));
    } else {
        write_u16(head, 2, short(done.total_len));
        seal_v4(&mut head[..transport_at]);
    }
    if done.ends_with_push {
        head[transport_at + 13] |= PSH;
    }
    let sum = Sum::pseudo(head, TCP, short(done.total_len - transport_at)).fold();
    write_u16(head, transport_at + TCP_CHECKSUM_AT, sum);
    group.header = Header {
        pieces: if is_v6 { Pieces::TcpV6 } else { Pieces::TcpV4 },
        needs_checksum: true,
        headers_len: short(group.payload_at),
        piece_len: short(done.piece_len),
        checksum_start: short(transport_at),
        checksum_offset: short(TCP_CHECKSUM_AT),
    };
}
