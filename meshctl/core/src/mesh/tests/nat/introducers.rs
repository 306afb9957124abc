//! Which introducer relays, when there are several, or the only one dies.

use super::*;

#[test]
fn of_several_introducers_both_use_the_same_and_another_takes_over() {
    for number in 0..6 {
        let mut world = World::new(2 + number, 3);
        let (one, other) = (usize::from(number), usize::from(number) + 1);
        world.block(one, other);
        world.live(30);
        let relay = world.relay_of(one, other).unwrap();
        assert_eq!(world.relay_of(other, one), Some(relay), "{number}");
        assert!(world.pings(one, other) && world.pings(other, one), "{number}");
        world.dead.insert(relay);
        world.live(15);
        let next = world.relay_of(one, other).unwrap();
        assert_ne!(next, relay);
        assert_eq!(world.relay_of(other, one), Some(next), "{number}");
        assert!(world.pings(one, other) && world.pings(other, one), "{number}");
    }
}

#[test]
fn one_of_two_introducers_that_only_one_end_reaches_is_not_used() {
    let mut world = World::new(2, 2);
    world.block(0, 1);
    world.block(0, 2);
    world.live(30);
    assert_eq!((world.relay_of(0, 1), world.relay_of(1, 0)), (Some(3), Some(3)));
    assert!(world.pings(0, 1));
    // The other one opens later: both may stay where they are, but not apart.
    world.blocked.remove(&(0, 2));
    world.blocked.remove(&(2, 0));
    world.live(120);
    assert_eq!(world.relay_of(0, 1), world.relay_of(1, 0));
    assert!(world.pings(0, 1));
}

#[test]
fn the_last_introducer_that_dies_leaves_them_unreachable_and_told_of() {
    let mut world = World::new(2, 1);
    world.block(0, 1);
    world.live(30);
    assert!(world.pings(0, 1));
    world.dead.insert(2);
    world.live(20);
    assert!(!world.pings(0, 1));
    let now = world.now();
    let unheard = world.nodes[0].mesh.unheard_peers(now);
    assert!(unheard.contains(&world.nodes[1].key()), "{unheard:?}");
    world.dead.clear();
    world.live(20);
    assert!(world.pings(0, 1), "and back with it");
}
