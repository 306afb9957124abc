//! Secrets, keys, ports and addresses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::Ipv4Net;
use meshctl_core::derive::{MeshKeys, MeshSubnet, mesh_ipv6, pair_id, pair_seed, relay_index};
use meshctl_core::key::PublicKey;
use meshctl_core::secret::Secret;

use crate::{text, vectors};

#[test]
fn every_secret_gives_the_go_daemons_keys() {
    let vectors = vectors();
    let secrets = vectors["secrets"].as_object().unwrap();
    assert_eq!(secrets.len(), 6);
    for (name, expected) in secrets {
        let secret = Secret::parse(text(expected, "typed")).unwrap();
        assert_eq!(secret, Secret::parse(text(expected, "raw")).unwrap(), "{name}");
        let keys = MeshKeys::derive(&secret);
        let derived = [
            ("network_id", hex::encode(keys.network_id)),
            ("mesh_id", keys.mesh_id()),
            ("gossip_key", hex::encode(*keys.gossip_key)),
            ("mesh_subnet_bytes", hex::encode(keys.subnet_bytes)),
            ("mesh_subnet", keys.default_subnet().net().to_string()),
            ("mesh_prefix_v6", hex::encode(keys.v6_prefix)),
            ("multicast_group", format!("{}:51830", keys.multicast_group)),
            ("psk_b64", STANDARD.encode(*keys.psk)),
        ];
        for (field, value) in derived {
            assert_eq!(value, text(expected, field), "{name} {field}");
        }
        assert_eq!(expected["gossip_port"], keys.gossip_port, "{name}");
        assert_eq!(expected["probe_tcp_port"], keys.probe_port(), "{name}");
    }
}

#[test]
fn every_peer_gets_the_go_daemons_addresses() {
    let vectors = vectors();
    let peers = vectors["peers"].as_object().unwrap();
    assert_eq!(peers.len(), 12);
    for (name, expected) in peers {
        let (secret_name, key_name) = name.split_once('/').unwrap();
        let secret = Secret::parse(text(&vectors["secrets"][secret_name], "raw")).unwrap();
        let keys = MeshKeys::derive(&secret);
        let key = key(key_name);
        let custom = |net: &str| MeshSubnet::custom(net.parse::<Ipv4Net>().unwrap()).unwrap();
        let default = keys.default_subnet();
        let c24 = custom("192.168.100.0/24");
        let derived = [
            ("mesh_ip", default.address(&key, &secret, 0)),
            ("nonce1", default.address(&key, &secret, 1)),
            ("nonce2", default.address(&key, &secret, 2)),
            ("c24", c24.address(&key, &secret, 0)),
            ("c24_nonce1", c24.address(&key, &secret, 1)),
            ("c28", custom("172.16.5.0/28").address(&key, &secret, 0)),
            ("c16", custom("10.42.0.0/16").address(&key, &secret, 0)),
            ("c30", custom("10.9.8.4/30").address(&key, &secret, 0)),
        ];
        for (field, address) in derived {
            assert_eq!(address.to_string(), text(expected, field), "{name} {field}");
        }
        let v6 = mesh_ipv6(keys.v6_prefix, &key, &secret);
        assert_eq!(v6.to_string(), text(expected, "mesh_ipv6"), "{name}");
    }
}

#[test]
fn pairs_have_the_go_daemons_numbers() {
    let vectors = vectors();
    for (pair, expected) in vectors["pairs"].as_object().unwrap() {
        let (one, other) = (key(&pair[..1]), key(&pair[1..]));
        assert_eq!(pair_id(&one, &other), text(expected, "pair_id"));
        assert_eq!(pair_id(&other, &one), text(expected, "pair_id"));
        assert_eq!(expected["rendezvous_offset_s"], pair_seed(&one, &other) % 20);
        for n in [2, 3] {
            let there = relay_index(&one, &other, n).unwrap();
            let back = relay_index(&other, &one, n).unwrap();
            assert_eq!(expected[format!("relay_idx_of_{n}")], there, "{pair} {n}");
            assert_eq!(expected[format!("relay_idx_of_{n}_reverse")], back, "{pair} {n}");
        }
        assert_eq!(relay_index(&one, &other, 0), None);
    }
}

/// The vectors' keys A, B, C are of the private bytes 0.., 32.. and 64..; Z is all zero.
pub(crate) fn key(name: &str) -> PublicKey {
    match name {
        "A" => "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=".parse().unwrap(),
        "B" => "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=".parse().unwrap(),
        "C" => "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=".parse().unwrap(),
        _ => PublicKey::from_bytes([0; 32]),
    }
}
