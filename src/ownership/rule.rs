//! The rule for one file, directory or link.

/// What the file system says about one part of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// The permission bits, with the sticky bit.
    pub(super) mode: u32,
    /// An access control list names further users or groups.
    pub(super) has_list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    File,
    /// A directory on the way to something else.
    Passed,
    /// The directory that the path leads to.
    Directory,
    Link,
    /// A device, a pipe or a socket: writing to it does not change what it is.
    Other,
}

/// Who is trusted.
pub(super) struct Trusted<'a> {
    pub(super) user: u32,
    /// The id that the system shows for owners outside this user namespace, if root is outside.
    pub(super) unmapped: Option<u32>,
    /// Whether only the user is a member of the group.
    pub(super) is_private_group: &'a dyn Fn(u32) -> bool,
}

/// Who else can change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Other {
    Owner,
    Everyone,
    Group,
    List,
}

const STICKY: u32 = 0o1000;

/// Who else can change it, if anyone.
pub(super) fn judge(facts: &Facts, trusted: &Trusted<'_>) -> Option<Other> {
    let is_trusted = facts.owner == trusted.user || facts.owner == 0 || Some(facts.owner) == trusted.unmapped;
    if !is_trusted {
        return Some(Other::Owner);
    }
    match facts.kind {
        // the permissions of a link mean nothing, and a device stays what it is
        Kind::Link | Kind::Other => return None,
        // others may add names there, as in /tmp, but cannot rename or remove what is not theirs
        Kind::Passed if facts.mode & STICKY != 0 => return None,
        Kind::Passed | Kind::Directory | Kind::File => {}
    }
    match () {
        () if facts.mode & 0o002 != 0 => Some(Other::Everyone),
        () if facts.mode & 0o020 == 0 => None,
        // with a list these bits are the most that anyone in the list gets
        () if facts.has_list => Some(Other::List),
        () if (trusted.is_private_group)(facts.group) => None,
        () => Some(Other::Group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kind: Kind, owner: u32, group: u32, mode: u32) -> Option<Other> {
        let trusted = Trusted { user: 1000, unmapped: None, is_private_group: &|group| group == 1000 };
        judge(&Facts { kind, owner, group, mode, has_list: false }, &trusted)
    }

    #[test]
    fn only_the_user_and_root_may_write() {
        for kind in [Kind::File, Kind::Directory, Kind::Passed] {
            for (owner, group, mode, expected) in [
                (1000, 1000, 0o700, None),
                (1000, 100, 0o755, None),
                (1000, 100, 0o444, None),
                // umask 002 with a group of one's own
                (1000, 1000, 0o775, None),
                (1000, 100, 0o775, Some(Other::Group)),
                (1000, 100, 0o720, Some(Other::Group)),
                (1000, 1000, 0o777, Some(Other::Everyone)),
                (1000, 1000, 0o702, Some(Other::Everyone)),
                (0, 0, 0o755, None),
                (0, 100, 0o775, Some(Other::Group)),
                (1001, 1000, 0o400, Some(Other::Owner)),
                (1001, 1001, 0o1777, Some(Other::Owner)),
            ] {
                assert_eq!(judged(kind, owner, group, mode), expected, "{kind:?} {owner}:{group} {mode:o}");
            }
        }
    }

    #[test]
    fn a_sticky_directory_may_be_passed_but_not_used() {
        for (owner, group, mode) in [(0, 0, 0o1777), (0, 30000, 0o1775), (1000, 100, 0o1777)] {
            assert_eq!(judged(Kind::Passed, owner, group, mode), None);
            assert!(judged(Kind::Directory, owner, group, mode).is_some());
        }
        // on a file the bit means nothing
        assert_eq!(judged(Kind::File, 0, 0, 0o1777), Some(Other::Everyone));
    }

    #[test]
    fn links_and_devices_need_only_a_trusted_owner() {
        assert_eq!(judged(Kind::Link, 1000, 100, 0o777), None);
        assert_eq!(judged(Kind::Link, 1001, 1000, 0o777), Some(Other::Owner));
        assert_eq!(judged(Kind::Other, 0, 0, 0o666), None);
    }

    #[test]
    fn a_list_is_trusted_only_without_write_permission() {
        let trusted = Trusted { user: 1000, unmapped: None, is_private_group: &|_| true };
        let facts = |mode| Facts { kind: Kind::File, owner: 1000, group: 1000, mode, has_list: true };
        assert_eq!(judge(&facts(0o660), &trusted), Some(Other::List));
        assert_eq!(judge(&facts(0o640), &trusted), None);
    }

    #[test]
    fn owners_outside_the_user_namespace_count_as_root_where_root_is_outside() {
        let facts = |mode| Facts { kind: Kind::Passed, owner: 65534, group: 65534, mode, has_list: false };
        let mut trusted = Trusted { user: 1000, unmapped: Some(65534), is_private_group: &|_| false };
        assert_eq!(judge(&facts(0o755), &trusted), None);
        assert_eq!(judge(&facts(0o775), &trusted), Some(Other::Group));
        trusted.unmapped = None;
        assert_eq!(judge(&facts(0o755), &trusted), Some(Other::Owner));
    }
}
