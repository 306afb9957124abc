//! OFFERs and STARTs in a member's name.

use super::*;

#[test]
fn an_introducer_hears_no_offer_in_a_members_name() {
    let mut nodes = [member(1), member(2), member(3)];
    nodes[0].mesh.settings.introducer = true;
    settle(&mut nodes, START, true);
    let [one, two, _] = &mut nodes;
    let to = one.control();
    let signed = plaintext(two.mesh.offer(key(3), to, None, later(10)));
    let text = String::from_utf8(signed.clone()).unwrap();
    let stripped = format!("{}}}", &text[..text.find(r#","kn""#).unwrap()]);
    let thief: SocketAddr = "192.0.2.66:52448".parse().unwrap();
    let starts = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Send { kind: Kind::Start, .. })).count()
    };
    let forged = two.seal(Kind::Offer, stripped.as_bytes());
    let effects = one.hear(Path::Exchange, thief, &forged, later(20));
    assert_eq!(starts(&effects), 0, "{effects:?}");
    let true_one = two.seal(Kind::Offer, &signed);
    let effects = one.hear(Path::Exchange, two.control(), &true_one, later(30));
    assert_eq!(starts(&effects), 2, "{effects:?}");
    let again = two.seal(Kind::Offer, &signed);
    let effects = one.hear(Path::Exchange, thief, &again, later(9_000));
    assert_eq!(starts(&effects), 0, "{effects:?}");
}

#[test]
fn a_start_is_an_introducers_own_word() {
    let mut nodes = [member(1), member(2), member(3)];
    nodes[0].mesh.settings.introducer = true;
    settle(&mut nodes, START, true);
    let [one, two, three] = &mut nodes;
    let offer = plaintext(two.mesh.offer(key(3), one.control(), None, later(10)));
    let offer = two.seal(Kind::Offer, &offer);
    let effects = one.hear(Path::Exchange, two.control(), &offer, later(20));
    for effect in effects {
        let Effect::Send { to, kind: Kind::Start, plaintext } = effect else { continue };
        let node = if to == two.control() { &mut *two } else { &mut *three };
        let text = String::from_utf8(plaintext).unwrap();
        let forged = text.replace("192.0.2.", "203.0.113.");
        assert_ne!(forged, text);
        for (text, counts) in [(forged, false), (text, true)] {
            let body = serde_json::from_str(&text).unwrap();
            let opened = crate::envelope::Opened {
                kind: Some(Kind::Start),
                nonce: [9; 12],
                timestamp: START.unix,
                body,
                plaintext: text.into_bytes(),
                by_successor: false,
            };
            let from = one.control();
            assert_eq!(node.mesh.is_own_word(&key(1), from, &opened, later(30)), counts);
        }
    }
}
