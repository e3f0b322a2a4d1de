//! Groups that have no member but the user: many systems give each user one, and let it write (umask 002).

use std::collections::HashSet;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{getegid, geteuid};

/// Whether only the user, or root, is in the group.
pub(super) fn is_private(group: u32) -> bool {
    let user = geteuid().as_raw();
    let Ok(found) = Group::from_gid(Gid::from_raw(group)) else { return false };
    let names = |id| User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name);
    let passwords = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let facts = GroupFacts {
        user,
        user_name: names(user),
        root_name: names(0),
        group,
        own_group: getegid().as_raw(),
        found: found.map(|group| (group.name, group.mem)),
        has_others: others_with(group, user, &passwords),
    };
    facts.is_private()
}

/// What the system says about a group.
struct GroupFacts {
    user: u32,
    user_name: Option<String>,
    root_name: Option<String>,
    group: u32,
    own_group: u32,
    /// Its name and the members that it lists; `None` if there is no such group.
    found: Option<(String, Vec<String>)>,
    /// It is the first group of other users, who are not listed as members.
    has_others: bool,
}

impl GroupFacts {
    fn is_private(&self) -> bool {
        // a group named or numbered like the user; others are found only where all users are listed on this machine
        let is_numbered = self.group == self.user;
        if self.has_others {
            return false;
        }
        let Some((name, members)) = &self.found else { return is_numbered && self.group == self.own_group };
        let known: HashSet<&String> = self.user_name.iter().chain(&self.root_name).collect();
        if !members.iter().all(|member| known.contains(member)) {
            return false;
        }
        let is_listed = self.user_name.as_ref().is_some_and(|user| members.contains(user));
        let is_named = self.user_name.as_ref() == Some(name);
        is_numbered || is_named || is_listed || self.group == 0
    }
}

/// Whether the group is the first one of a user other than this one and root.
fn others_with(group: u32, user: u32, passwords: &str) -> bool {
    passwords.lines().any(|line| {
        let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
        let (Some(Ok(id)), Some(Ok(first))) = (fields.next(), fields.next()) else { return false };
        first == group && id != user && id != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(user: u32, group: u32, found: Option<(&str, &[&str])>, has_others: bool) -> bool {
        let found =
            found.map(|(name, members)| (name.to_owned(), members.iter().map(|member| (*member).to_owned()).collect()));
        let (user_name, root_name) = (Some("ann".to_owned()), Some("root".to_owned()));
        GroupFacts { user, user_name, root_name, group, own_group: user, found, has_others }.is_private()
    }

    #[test]
    fn a_group_is_private_without_other_members() {
        for (group, found, has_others, expected) in [
            (1000, Some(("ann", &[][..])), false, true),
            // the name differs from the number, as after `useradd` with many groups
            (1005, Some(("ann", &[][..])), false, true),
            (1005, Some(("ann", &["ann", "root"][..])), false, true),
            (1005, Some(("ann", &["bob"][..])), false, false),
            (1000, Some(("ann", &[][..])), true, false),
            // listed as its only member
            (2000, Some(("work", &["ann"][..])), false, true),
            (2000, Some(("work", &["ann", "bob"][..])), false, false),
            // a group of a directory service does not list those who have it as their first group
            (513, Some(("domain users", &[][..])), false, false),
            (100, Some(("users", &[][..])), false, false),
            (20, Some(("staff", &["root"][..])), false, false),
            (0, Some(("root", &[][..])), false, true),
            (0, Some(("root", &["bob"][..])), false, false),
            (1000, None, false, true),
            (1005, None, false, false),
        ] {
            assert_eq!(private(1000, group, found, has_others), expected, "{group} {found:?} {has_others}");
        }
    }

    #[test]
    fn first_groups_of_other_users_are_found() {
        let passwords = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:\nbob:x:1001:100::/home/bob:\n";
        assert!(others_with(100, 1000, passwords) && others_with(1000, 1001, passwords));
        assert!(!others_with(1000, 1000, passwords) && !others_with(0, 1000, passwords));
    }
}
