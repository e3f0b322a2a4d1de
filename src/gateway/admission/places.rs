//! The places for connections: counted by who is at the other end, and by whether it has shown a valid key.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::gateway) enum PeerClass {
    /// A program of this user, over the Unix socket.
    Local,
    /// A program of this user, over TCP.
    Own,
    /// Another user of this machine, over TCP.
    Other(u32),
    /// Over TCP; the system does not tell who.
    Unknown,
}

/// How many connections there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlaceLimits {
    pub(super) all: usize,
    /// The rest is for the Unix socket.
    tcp: usize,
    /// Without a key: of this user, of one other, of all others together, of users who are not known.
    own: usize,
    other: usize,
    others: usize,
    unknown: usize,
    /// The system tells the user of most connections.
    is_user_known: bool,
}

impl PlaceLimits {
    /// Of `all` connections; `is_user_known`: the system tells the user of most of them.
    pub(super) fn of(all: usize, is_user_known: bool) -> Self {
        let all = all.max(16);
        let tcp = all - (all / 8).max(4);
        let other = (tcp / 32).clamp(2, 64);
        let unknown = if is_user_known { other } else { tcp / 2 };
        Self { all, tcp, own: tcp / 2, other, others: (tcp / 8).max(other), unknown, is_user_known }
    }

    /// Whether a connection of this class is hardly one of this user.
    pub(super) fn is_foreign(&self, class: PeerClass) -> bool {
        // a connection that was closed at once has no user
        matches!(class, PeerClass::Other(_)) || class == PeerClass::Unknown && self.is_user_known
    }

    /// How many connections of this class may be without a key.
    pub(super) fn share(&self, class: PeerClass) -> usize {
        match class {
            PeerClass::Local => self.all,
            PeerClass::Own => self.own,
            PeerClass::Other(_) => self.other,
            PeerClass::Unknown => self.unknown,
        }
    }
}

/// A connection, by the order in which they came.
pub(super) type PlaceId = u64;

#[derive(Debug)]
struct ConnectionPlace<T> {
    class: PeerClass,
    has_key: bool,
    /// Since which request of all it has had none; a connection that has one is not in [`Places::idle`].
    idle_since: Option<u64>,
    /// How much of an unfinished head it holds.
    head: usize,
    /// Dropped when the connection has to go.
    _signal: T,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Places<T> {
    limits: PlaceLimits,
    next: PlaceId,
    places: FxHashMap<PlaceId, ConnectionPlace<T>>,
    /// Those without a key, oldest first.
    without_key: BTreeSet<PlaceId>,
    /// Those with a key and without a request, by the end of their last one.
    idle: BTreeMap<u64, PlaceId>,
    counts: FxHashMap<PeerClass, usize>,
    tcp: usize,
    heads: usize,
}

/// What became of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// It has a place; another connection, of this class, had to go for it.
    Admitted(PlaceId, Option<PeerClass>),
    /// Every place is taken, by connections that come first, or its class has used up its share and has replaced one of
    /// its connections just now.
    Refused,
}

impl<T> Places<T> {
    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self {
            limits,
            next: 0,
            places: FxHashMap::default(),
            without_key: BTreeSet::new(),
            idle: BTreeMap::new(),
            counts: FxHashMap::default(),
            tcp: 0,
            heads: 0,
        }
    }

    pub(super) fn limits(&self) -> PlaceLimits {
        self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many of a class are without a key.
    pub(super) fn without_key(&self, class: PeerClass) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Gives a new connection a place, if need be that of another one: the oldest without a key, of its own class if that
    /// has used up its share; of another user before one of this user; at last, for this user, one that has been idle for
    /// longest. `may_replace`: a connection of another user may take the place of one of its own.
    pub(super) fn admit(&mut self, class: PeerClass, signal: T, may_replace: bool) -> Admission {
        let Ok(goes) = self.makes_room(class) else { return Admission::Refused };
        if goes.is_some() && !may_replace && self.limits.is_foreign(class) {
            return Admission::Refused;
        }
        let gone = goes.and_then(|id| self.remove(id));
        let id = self.next;
        self.next += 1;
        let has_key = class == PeerClass::Local;
        if !has_key {
            self.without_key.insert(id);
            *self.counts.entry(class).or_default() += 1;
        }
        self.tcp += usize::from(class != PeerClass::Local);
        // until its first request it is busy, so that a new one is not taken for idle
        self.places.insert(id, ConnectionPlace { class, has_key, idle_since: None, head: 0, _signal: signal });
        Admission::Admitted(id, gone)
    }

    /// Which connection goes for a new one, if any; an error if none can.
    fn makes_room(&self, class: PeerClass) -> Result<Option<PlaceId>, ()> {
        if class != PeerClass::Local && self.without_key(class) >= self.limits.share(class) {
            return self.oldest(|of| of == class).map(Some).ok_or(());
        }
        let is_foreign = |of: PeerClass| matches!(of, PeerClass::Other(_));
        let others: usize = self.counts.iter().filter(|(of, _)| is_foreign(**of)).map(|(_, count)| count).sum();
        if is_foreign(class) && others >= self.limits.others {
            return self.oldest(is_foreign).map(Some).ok_or(());
        }
        let is_tcp_full = class != PeerClass::Local && self.tcp >= self.limits.tcp;
        if !is_tcp_full && self.places.len() < self.limits.all {
            return Ok(None);
        }
        let foreign = self.oldest(is_foreign);
        if is_foreign(class) {
            return foreign.map(Some).ok_or(());
        }
        let unknown = || self.oldest(|of| of == PeerClass::Unknown);
        let own = || self.oldest(|of| of == PeerClass::Own).filter(|_| class != PeerClass::Unknown);
        let idle = || self.idle.values().next().copied().filter(|_| class != PeerClass::Unknown);
        foreign.or_else(unknown).or_else(own).or_else(idle).map(Some).ok_or(())
    }

    fn oldest(&self, is_of: impl Fn(PeerClass) -> bool) -> Option<PlaceId> {
        let class = |id: &PlaceId| self.places.get(id).is_some_and(|place| is_of(place.class));
        self.without_key.iter().copied().find(class)
    }

    /// The connection is closed, or has to go.
    pub(super) fn remove(&mut self, id: PlaceId) -> Option<PeerClass> {
        let place = self.places.remove(&id)?;
        if !place.has_key {
            self.without_key.remove(&id);
            self.uncount(place.class);
        }
        if let Some(since) = place.idle_since {
            self.idle.remove(&since);
        }
        self.tcp -= usize::from(place.class != PeerClass::Local);
        self.heads -= place.head;
        Some(place.class)
    }

    fn uncount(&mut self, class: PeerClass) {
        if let Some(count) = self.counts.get_mut(&class) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&class);
            }
        }
    }

    /// The connection has shown a valid key.
    pub(super) fn show_key(&mut self, id: PlaceId) {
        let Some(place) = self.places.get_mut(&id).filter(|place| !place.has_key) else { return };
        place.has_key = true;
        let class = place.class;
        self.without_key.remove(&id);
        self.uncount(class);
    }

    /// A request has come on the connection: its head is whole.
    pub(super) fn begin(&mut self, id: PlaceId) {
        let Some(place) = self.places.get_mut(&id) else { return };
        self.heads -= std::mem::take(&mut place.head);
        if let Some(since) = place.idle_since.take() {
            self.idle.remove(&since);
        }
    }

    /// The connection's request has ended.
    pub(super) fn end(&mut self, id: PlaceId) {
        let Some(place) = self.places.get_mut(&id).filter(|place| place.has_key && place.idle_since.is_none()) else {
            return;
        };
        place.idle_since = Some(self.next);
        self.idle.insert(self.next, id);
        self.next += 1;
    }

    /// More of an unfinished head has come. While all of them together exceed `most`, the longest one goes, and of equal
    /// ones the oldest.
    pub(super) fn grow_head(&mut self, id: PlaceId, bytes: usize, most: usize) -> Vec<PeerClass> {
        let mut gone = Vec::new();
        let Some(place) = self.places.get_mut(&id) else { return gone };
        place.head += bytes;
        self.heads += bytes;
        while self.heads > most {
            let longest = self.places.iter().max_by_key(|(id, place)| (place.head, std::cmp::Reverse(**id)));
            let Some(longest) = longest.map(|(id, _)| *id) else { break };
            gone.extend(self.remove(longest));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOREIGN: PeerClass = PeerClass::Other(1001);

    fn places(all: usize) -> Places<()> {
        Places::new(PlaceLimits::of(all, true))
    }

    fn admitted(places: &mut Places<()>, class: PeerClass) -> (PlaceId, Option<PeerClass>) {
        match places.admit(class, (), true) {
            Admission::Admitted(id, gone) => (id, gone),
            Admission::Refused => panic!("{class:?} is refused"),
        }
    }

    #[test]
    fn another_user_fills_only_its_share_and_its_oldest_connection_goes_for_a_new_one() {
        let mut places = places(2730);
        let share = places.limits().share(FOREIGN);
        assert!(share <= 64);
        let first = admitted(&mut places, FOREIGN).0;
        for _ in 1..share {
            assert_eq!(admitted(&mut places, FOREIGN).1, None);
        }
        for _ in 0..5000 {
            assert_eq!(admitted(&mut places, FOREIGN).1, Some(FOREIGN));
        }
        assert_eq!((places.len(), places.remove(first)), (share, None));
        // many users together have a share too
        for user in 2000..4000 {
            admitted(&mut places, PeerClass::Other(user));
        }
        assert!(places.len() <= places.limits().others);
        for _ in 0..places.limits().own {
            assert_eq!(admitted(&mut places, PeerClass::Own).1, None);
        }
        assert_eq!(admitted(&mut places, PeerClass::Own).1, Some(PeerClass::Own));
        assert_eq!(admitted(&mut places, PeerClass::Local).1, None);
    }

    #[test]
    fn another_user_may_not_replace_its_connections_all_the_time_and_this_user_may() {
        let mut places = places(2730);
        for _ in 0..places.limits().share(FOREIGN) {
            assert!(matches!(places.admit(FOREIGN, (), false), Admission::Admitted(_, None)));
        }
        assert_eq!(places.admit(FOREIGN, (), false), Admission::Refused);
        assert!(matches!(places.admit(FOREIGN, (), true), Admission::Admitted(_, Some(FOREIGN))));
        while places.without_key(PeerClass::Own) < places.limits().own {
            admitted(&mut places, PeerClass::Own);
        }
        assert!(matches!(places.admit(PeerClass::Own, (), false), Admission::Admitted(_, Some(PeerClass::Own))));
    }

    #[test]
    fn when_every_place_is_taken_others_go_first_then_what_is_idle_and_never_a_request() {
        let mut places = places(16);
        let limits = places.limits();
        let foreign = admitted(&mut places, FOREIGN).0;
        let mut ids = Vec::new();
        while places.tcp < limits.tcp {
            let id = admitted(&mut places, PeerClass::Own).0;
            places.begin(id);
            places.show_key(id);
            ids.push(id);
        }
        assert_eq!(admitted(&mut places, PeerClass::Own).1, Some(FOREIGN));
        let newest = places.next - 1;
        places.show_key(newest);
        assert_eq!((places.remove(foreign), places.admit(PeerClass::Own, (), true)), (None, Admission::Refused));
        assert_eq!(places.admit(FOREIGN, (), true), Admission::Refused);
        // the Unix socket still has its own places
        for _ in limits.tcp..limits.all {
            assert_eq!(admitted(&mut places, PeerClass::Local).1, None);
        }
        assert_eq!(places.admit(PeerClass::Local, (), true), Admission::Refused);
        for id in [ids[3], ids[1]] {
            places.end(id);
        }
        assert_eq!(admitted(&mut places, PeerClass::Own).1, Some(PeerClass::Own));
        assert!(
            places.remove(ids[3]).is_none() && places.remove(ids[1]).is_some(),
            "the one that was idle for longest"
        );
    }

    #[test]
    fn where_users_are_not_known_the_oldest_connection_without_a_key_goes() {
        let mut places = Places::new(PlaceLimits::of(100, false));
        let kept = admitted(&mut places, PeerClass::Unknown).0;
        places.show_key(kept);
        for _ in 0..1000 {
            admitted(&mut places, PeerClass::Unknown);
        }
        assert!(places.len() <= places.limits().tcp / 2 + 1);
        assert!(places.remove(kept).is_some(), "a connection that has shown a key stays");
    }

    #[test]
    fn half_sent_heads_share_a_budget_and_the_longest_goes() {
        let mut places = places(100);
        let ids: Vec<PlaceId> = (0..4).map(|_| admitted(&mut places, PeerClass::Own).0).collect();
        assert!(places.grow_head(ids[0], 40, 100).is_empty() && places.grow_head(ids[1], 40, 100).is_empty());
        assert!(places.grow_head(ids[2], 10, 100).is_empty());
        assert_eq!(places.grow_head(ids[3], 20, 100), [PeerClass::Own]);
        assert!(places.remove(ids[0]).is_none() && places.heads == 70);
        places.begin(ids[1]);
        assert_eq!(places.heads, 30);
        // also its own
        assert_eq!(places.grow_head(ids[2], 200, 100), [PeerClass::Own]);
        assert!(places.remove(ids[2]).is_none() && places.heads == 20);
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_the_places(steps in prop::collection::vec((0u8..7, 0u64..40, 0usize..4), 0..300)) {
            let mut places = places(20);
            let classes = [PeerClass::Local, PeerClass::Own, FOREIGN, PeerClass::Unknown];
            for (step, id, class) in steps {
                match step {
                    0..=2 => _ = places.admit(classes[class], (), id % 2 == 0),
                    3 => places.show_key(id),
                    4 => places.begin(id),
                    5 => places.end(id),
                    _ => _ = places.grow_head(id, 30 * class, 200),
                }
                let tcp = places.places.values().filter(|place| place.class != PeerClass::Local).count();
                let without = places.places.values().filter(|place| !place.has_key).count();
                let heads: usize = places.places.values().map(|place| place.head).sum();
                prop_assert!(places.len() <= places.limits.all && tcp <= places.limits.tcp && heads <= 200);
                prop_assert_eq!((tcp, heads, without), (places.tcp, places.heads, places.without_key.len()));
                prop_assert_eq!(without, places.counts.values().sum::<usize>());
                let idle = places.places.values().filter(|place| place.idle_since.is_some()).count();
                prop_assert_eq!(idle, places.idle.len());
                for (class, count) in &places.counts {
                    prop_assert!(*count <= places.limits.share(*class));
                }
            }
        }
    }
}
