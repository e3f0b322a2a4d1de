//! Which accounts have changed, for indices that follow the table.

/// So many changes are kept in any case.
const FEWEST: usize = 64;

/// The slots that have changed, oldest first; only the latest changes are kept.
#[derive(Debug, Default)]
pub struct ChangeLog {
    /// How many changes came before those that are kept.
    forgotten: u64,
    slots: Vec<usize>,
}

impl ChangeLog {
    /// Notes a change; the latest ones are kept, at least `most` of them.
    #[inline]
    pub fn note(&mut self, slot: usize, most: usize) {
        let most = most.max(FEWEST);
        if self.slots.len() >= 2 * most {
            self.slots.drain(..most);
            self.forgotten += most as u64;
        }
        self.slots.push(slot);
    }

    /// Notes that every account may have changed.
    pub fn note_all(&mut self) {
        // one more, so that a reader of all changes so far learns of it
        self.forgotten += self.slots.len() as u64 + 1;
        self.slots.clear();
    }

    /// How many changes there were: where a reader of all of them goes on.
    pub fn end(&self) -> u64 {
        self.forgotten + self.slots.len() as u64
    }

    /// The changes since a reader was at `end`; `None` if they are not known any more.
    pub fn since(&self, end: u64) -> Option<&[usize]> {
        self.slots.get(usize::try_from(end.checked_sub(self.forgotten)?).ok()?..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_each_change_once_or_learns_that_some_are_lost() {
        let mut log = ChangeLog::default();
        let start = log.end();
        (0..3).for_each(|slot| log.note(slot, 1));
        assert_eq!(log.since(start), Some(&[0, 1, 2][..]));
        let read = log.end();
        assert_eq!(log.since(read), Some(&[][..]));
        log.note_all();
        assert_eq!((log.since(read), log.since(log.end())), (None, Some(&[][..])));
        let read = log.end();
        (0..FEWEST).for_each(|slot| log.note(slot, 1));
        assert_eq!(log.since(read).map(<[usize]>::len), Some(FEWEST));
        (0..2 * FEWEST).for_each(|slot| log.note(slot, 1));
        assert_eq!(log.since(read), None);
        assert!(log.slots.len() <= 2 * FEWEST && log.since(log.end() - FEWEST as u64).is_some());
    }
}
