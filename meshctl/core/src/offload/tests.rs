//! Splitting and joining against a plain reading of the RFCs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::header::Pieces;
use super::*;

/// One TCP packet as an application would see it.
#[derive(Debug, Clone)]
struct Plain {
    is_v6: bool,
    flow: u8,
    tos: u8,
    id: u16,
    dont_fragment: bool,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Plain {
    fn transport_at(&self) -> usize {
        if self.is_v6 { 40 } else { 20 }
    }

    fn headers_len(&self) -> usize {
        self.transport_at() + 20 + self.options.len()
    }

    fn render(&self) -> Vec<u8> {
        let transport_len = 20 + self.options.len() + self.payload.len();
        let mut bytes = if self.is_v6 {
            let mut ip = vec![0x60, 0, 0, 0, 0, 0, TCP, 64];
            ip[0] |= self.tos >> 4;
            ip[1] |= self.tos << 4;
            write_u16(&mut ip, 4, short(transport_len));
            ip.extend([0xfd; 15]);
            ip.push(self.flow);
            ip.extend([0xfd; 16]);
            ip
        } else {
            let mut ip = vec![0x45, self.tos, 0, 0, 0, 0, 0, 0, 64, TCP, 0, 0];
            write_u16(&mut ip, 2, short(20 + transport_len));
            write_u16(&mut ip, 4, self.id);
            ip[6] = if self.dont_fragment { 0x40 } else { 0 };
            ip.extend([10, 0, 0, self.flow, 10, 0, 0, 1]);
            let sum = !naive_sum(&ip);
            write_u16(&mut ip, 10, sum);
            ip
        };
        let mut transport = vec![0x1f, 0x90, 0, self.flow];
        transport.extend(self.sequence.to_be_bytes());
        transport.extend(self.acknowledged.to_be_bytes());
        let offset = u8::try_from((20 + self.options.len()) / 4).unwrap() << 4;
        transport.extend([offset, self.flags, 1, 2, 0, 0, 0, 0]);
        transport.extend(&self.options);
        transport.extend(&self.payload);
        let sum = !naive_transport_sum(&bytes, TCP, &transport);
        write_u16(&mut transport, TCP_CHECKSUM_AT, sum);
        bytes.extend(transport);
        bytes
    }

    /// As the kernel hands it over to be split.
    fn super_packet(&self, piece_len: usize) -> Vec<u8> {
        let at = self.transport_at();
        let header = Header {
            pieces: if self.is_v6 { Pieces::TcpV6 } else { Pieces::TcpV4 },
            needs_checksum: true,
            headers_len: short(self.headers_len()),
            piece_len: short(piece_len),
            checksum_start: short(at),
            checksum_offset: 16,
        };
        [&header.encode()[..], &self.render()].concat()
    }
}

fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn naive_transport_sum(ip: &[u8], protocol: u8, transport: &[u8]) -> u16 {
    let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    let mut bytes = addresses.to_vec();
    bytes.extend([0, protocol]);
    bytes.extend(short(transport.len()).to_be_bytes());
    bytes.extend(transport);
    naive_sum(&bytes)
}

fn assert_sound(packet: &[u8]) {
    let is_v6 = packet[0] >> 4 == 6;
    let (at, protocol) = if is_v6 { (40, packet[6]) } else { (20, packet[9]) };
    if is_v6 {
        assert_eq!(usize::from(read_u16(packet, 4)), packet.len() - 40);
    } else {
        assert_eq!(usize::from(read_u16(packet, 2)), packet.len());
        assert_eq!(naive_sum(&packet[..20]), 0xffff, "the IPv4 header's checksum");
    }
    assert_eq!(naive_transport_sum(packet, protocol, &packet[at..]), 0xffff, "the checksum");
}

fn split(read: &mut [u8]) -> Vec<Vec<u8>> {
    let segments = segment(read).unwrap();
    let write = |index| {
        let mut out = vec![0xaa; segments.len_of(index)];
        segments.write(index, &mut out);
        out
    };
    (0..segments.count()).map(write).collect()
}

/// What the kernel makes of a group that is written to it.
fn written(group: &Group, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = group.header.encode().to_vec();
    bytes.extend(&packets[group.head]);
    for index in &group.tail {
        bytes.extend(&packets[*index][group.payload_at..]);
    }
    bytes
}

/// Equal on the wire but for an identification that nobody reads.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn plain() -> impl Strategy<Value = Plain> {
    let numbers = (any::<u16>(), any::<u32>(), any::<u32>());
    let marks = (0_u8..4, any::<bool>(), any::<bool>(), 1_u8..4);
    (numbers, marks, 0_usize..4, vec(any::<u8>(), 1..9000)).prop_map(
        |((id, sequence, acknowledged), (tos, dont_fragment, is_v6, flow), options, payload)| {
            Plain {
                is_v6,
                flow,
                tos,
                id,
                dont_fragment,
                sequence,
                acknowledged,
                flags: ACK,
                options: vec![1; options * 4],
                payload,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_split_is_the_stream_it_was(
        mut plain in plain(), piece_len in 1_usize..2000, flags in any::<u8>(),
    ) {
        plain.flags = flags;
        let mut read = plain.super_packet(piece_len);
        let packets = split(&mut read);
        let mut stream: Vec<u8> = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            assert_sound(packet);
            let tcp = &packet[plain.transport_at()..];
            let passed = u32::try_from(stream.len()).unwrap();
            prop_assert_eq!(read_u32(tcp, 4), plain.sequence.wrapping_add(passed));
            let (is_first, is_last) = (index == 0, index + 1 == packets.len());
            let kept = if is_first { 0xff } else { !CWR } & if is_last { 0xff } else { !(FIN | PSH) };
            prop_assert_eq!(tcp[13], flags & kept);
            prop_assert_eq!(&tcp[20..20 + plain.options.len()], &plain.options[..]);
            if !plain.is_v6 {
                prop_assert_eq!(read_u16(packet, 4), plain.id.wrapping_add(short(index)));
            }
            stream.extend(&packet[plain.headers_len()..]);
        }
        prop_assert_eq!(stream, plain.payload);
    }

    #[test]
    fn split_and_joined_again_is_one_packet(
        mut plain in plain(), piece_len in 100_usize..1400, push in any::<bool>(),
    ) {
        plain.flags = if push { ACK | PSH } else { ACK };
        let mut packets = split(&mut plain.super_packet(piece_len));
        let count = packets.len();
        let groups = coalesce(&mut packets);
        prop_assert_eq!(groups.len(), 1);
        prop_assert_eq!(groups[0].tail.len(), count - 1);
        let again = written(&groups[0], &packets);
        let original = plain.render();
        prop_assert_eq!(again.len(), HEADER_LEN + original.len());
        prop_assert_eq!(&again[HEADER_LEN + plain.headers_len()..], &plain.payload[..]);
        let flags_at = HEADER_LEN + plain.transport_at() + 13;
        prop_assert_eq!(again[flags_at], plain.flags);
    }

    /// Flows that are mixed, cut, doubled, damaged and marked come out whole and in order.
    #[test]
    fn joining_changes_no_flow(
        plains in vec(plain(), 1..5),
        piece_len in 50_usize..1400,
        picks in vec((0_usize..5, 0_u8..20), 1..80),
    ) {
        let mut queues: Vec<Vec<Vec<u8>>> = Vec::new();
        for (flow, plain) in (1..).zip(&plains) {
            let plain = Plain { flow, ..plain.clone() };
            let mut packets = split(&mut plain.super_packet(piece_len));
            packets.reverse();
            queues.push(packets);
        }
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for (flow, chance) in picks {
            let count = queues.len();
            let Some(mut packet) = queues[flow % count].pop() else { continue };
            let tcp_at = if packet[0] >> 4 == 6 { 40 } else { 20 };
            match chance {
                0 => continue,
                1 => sent.push(packet.clone()),
                2 => *packet.last_mut().unwrap() ^= 1,
                3 => packet[tcp_at + 13] |= FIN,
                4 => packet[1] ^= 0x02,
                8 if tcp_at == 20 => {
                    packet[1] ^= 0x02;
                    super::checksum::seal_v4(&mut packet[..20]);
                }
                5 => packet[tcp_at + 15] ^= 1,
                6 if tcp_at == 20 => packet[9] = UDP,
                7 => packet.truncate(tcp_at + 19),
                _ => {}
            }
            sent.push(packet);
        }
        let mut packets = sent.clone();
        let groups = coalesce(&mut packets);
        let mut received = Vec::new();
        for group in &groups {
            let pieces = split(&mut written(group, &packets));
            prop_assert_eq!(pieces.len(), 1 + group.tail.len(), "{:?}", group);
            received.extend(pieces);
        }
        prop_assert_eq!(received.len(), sent.len());
        for flow in 1..=5 {
            let of_flow = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let of = |packet: &&Vec<u8>| {
                    let at = if packet[0] >> 4 == 6 { 23 } else { 15 };
                    packet[at] == flow
                };
                // A UDP packet is of another flow than the TCP packets around it.
                let mut found: Vec<&Vec<u8>> = all.iter().filter(of).collect();
                found.sort_by_key(|packet| packet[0] == 0x45 && packet[9] == UDP);
                found.into_iter().map(|packet| comparable(packet)).collect()
            };
            prop_assert_eq!(of_flow(&received), of_flow(&sent));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut read in vec(any::<u8>(), 0..200), mut packets in vec(vec(any::<u8>(), 0..90), 0..8),
    ) {
        if let Ok(segments) = segment(&mut read) {
            for index in 0..segments.count() {
                segments.write(index, &mut vec![0; segments.len_of(index)]);
            }
        }
        coalesce(&mut packets);
    }

    #[test]
    fn damaged_packets_do_not_make_it_panic(
        plain in plain(), piece_len in 0_usize..1500, at in any::<usize>(), byte in any::<u8>(),
        cut in any::<usize>(),
    ) {
        let mut read = plain.super_packet(piece_len);
        let at = at % 90.min(read.len());
        read[at] = byte;
        read.truncate(cut % (read.len() * 2) + 1);
        let mut packets = Vec::new();
        if let Ok(segments) = segment(&mut read) {
            for index in 0..segments.count().min(200) {
                let mut out = vec![0; segments.len_of(index)];
                segments.write(index, &mut out);
                packets.push(out);
            }
        }
        coalesce(&mut packets);
    }
}

#[test]
fn a_checksum_that_was_left_to_us_is_completed() {
    let whole = Plain {
        is_v6: false,
        flow: 1,
        tos: 0,
        id: 7,
        dont_fragment: true,
        sequence: 1,
        acknowledged: 2,
        flags: ACK,
        options: Vec::new(),
        payload: b"odd".to_vec(),
    };
    let expected = whole.render();
    let mut partial = expected.clone();
    let transport_len = short(partial.len() - 20);
    let pseudo = [&partial[12..20], &[0, TCP], &transport_len.to_be_bytes()].concat();
    write_u16(&mut partial, 20 + TCP_CHECKSUM_AT, naive_sum(&pseudo));
    let header =
        Header { needs_checksum: true, checksum_start: 20, checksum_offset: 16, ..Header::PLAIN };
    let mut read = [&header.encode()[..], &partial].concat();
    assert_eq!(split(&mut read), [expected]);
}

#[test]
fn udp_is_split_with_its_lengths() {
    let payload: Vec<u8> = (0..=255).cycle().take(2500).collect();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend([0, 1, 0, 2, 0, 0, 0, 0]);
    packet.extend(&payload);
    let header = Header {
        pieces: Pieces::Udp,
        needs_checksum: true,
        headers_len: 28,
        piece_len: 1000,
        checksum_start: 20,
        checksum_offset: 6,
    };
    let packets = split(&mut [&header.encode()[..], &packet].concat());
    let lens: Vec<u16> = packets.iter().map(|packet| read_u16(packet, 24)).collect();
    assert_eq!(lens, [1008, 1008, 508]);
    for packet in &packets {
        assert_sound(packet);
    }
    let stream: Vec<u8> = packets.iter().flat_map(|packet| packet[28..].to_vec()).collect();
    assert_eq!(stream, payload);
}

#[test]
fn contradictions_are_refused() {
    let plain =
        |header: Header, packet: &[u8]| segment(&mut [&header.encode()[..], packet].concat()).err();
    let tcp = Header { pieces: Pieces::TcpV4, piece_len: 100, checksum_start: 20, ..Header::PLAIN };
    assert_eq!(segment(&mut [0; 9]).err(), Some(Malformed::Short));
    assert_eq!(plain(tcp, &[]), Some(Malformed::Unknown));
    assert_eq!(plain(tcp, &[0x60; 100]), Some(Malformed::Contradiction));
    assert_eq!(
        plain(tcp, &[0x46; 100]),
        Some(Malformed::Contradiction),
        "IP options end elsewhere"
    );
    assert_eq!(plain(tcp, &[0x45; 30]), Some(Malformed::Short));
    assert_eq!(plain(Header { piece_len: 0, ..tcp }, &[0x45; 100]), Some(Malformed::Contradiction));
    let partial = Header { needs_checksum: true, checksum_start: 99, ..Header::PLAIN };
    assert_eq!(plain(partial, &[0x45; 100]), Some(Malformed::Short));
}
