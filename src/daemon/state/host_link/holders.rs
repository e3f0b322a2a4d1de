//! The processes and connections of this machine that hold leases at the host, by numbers of which none is used twice.

use rustc_hash::FxHashMap;

use crate::pool::{ConnectionId, Process};
use crate::protocol::GuestHolder;

/// The holder of leases that end with their time.
const OWN: u32 = 0;

/// All holders.
#[derive(Debug)]
pub(in crate::daemon) struct LocalHolders {
    next: u32,
    of_process: FxHashMap<Process, u32>,
    of_connection: FxHashMap<ConnectionId, u32>,
    all: FxHashMap<u32, GuestHolder>,
}

impl Default for LocalHolders {
    fn default() -> Self {
        let (of_process, of_connection, all) = Default::default();
        Self { next: OWN + 1, of_process, of_connection, all }
    }
}

impl LocalHolders {
    pub(in crate::daemon) fn of_process(&mut self, process: Process, program: Option<&str>) -> GuestHolder {
        let number = *self.of_process.entry(process).or_insert_with(|| following(&mut self.next));
        self.noted(number, process.pid, program)
    }

    pub(in crate::daemon) fn of_connection(
        &mut self,
        connection: ConnectionId,
        pid: Option<u32>,
        program: Option<&str>,
    ) -> GuestHolder {
        let number = *self.of_connection.entry(connection).or_insert_with(|| following(&mut self.next));
        self.noted(number, pid.unwrap_or_default(), program)
    }

    pub(in crate::daemon) fn own(&mut self, pid: u32) -> GuestHolder {
        self.noted(OWN, pid, Some("a lease with a time"))
    }

    fn noted(&mut self, number: u32, pid: u32, program: Option<&str>) -> GuestHolder {
        let holder = GuestHolder { number, pid, program: program.map(str::to_owned) };
        self.all.insert(number, holder.clone());
        holder
    }

    pub(in crate::daemon) fn process_ended(&mut self, process: Process) -> Option<u32> {
        let number = self.of_process.remove(&process)?;
        self.all.remove(&number).map(|_| number)
    }

    pub(in crate::daemon) fn connection_ended(&mut self, connection: ConnectionId) -> Option<u32> {
        let number = self.of_connection.remove(&connection)?;
        self.all.remove(&number).map(|_| number)
    }

    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(in crate::daemon) fn is_living(&self, number: u32) -> bool {
        self.all.contains_key(&number)
    }

    /// Those that live.
    pub(in crate::daemon) fn living(&self) -> Vec<GuestHolder> {
        let mut all: Vec<GuestHolder> = self.all.values().cloned().collect();
        all.sort_unstable_by_key(|holder| holder.number);
        all
    }

    /// The link was down for too long: the leases of all holders have ended, and the next lease of one of them belongs to
    /// another number.
    pub(in crate::daemon) fn retire_all(&mut self) {
        self.of_process.clear();
        self.of_connection.clear();
        self.all.clear();
    }
}

/// The next number. Four thousand millions last for years; after that the host refuses holders that it knows as ended.
fn following(next: &mut u32) -> u32 {
    let number = *next;
    *next = next.checked_add(1).unwrap_or(OWN + 1);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_keeps_its_number_until_it_ends_or_is_retired() {
        let mut holders = LocalHolders::default();
        let process = Process { pid: 7, start: 1 };
        let first = holders.of_process(process, Some("claude"));
        assert_eq!(holders.of_process(process, Some("claude")), first);
        let connection = holders.of_connection(ConnectionId(1), Some(7), None);
        assert_ne!(connection.number, first.number);
        assert_eq!(holders.living(), [first.clone(), connection.clone()]);
        assert_eq!(holders.process_ended(process), Some(first.number));
        assert_eq!(holders.process_ended(process), None);
        holders.retire_all();
        assert_eq!((holders.connection_ended(ConnectionId(1)), holders.living().len()), (None, 0));
        let again = holders.of_connection(ConnectionId(1), Some(7), None);
        assert!(again.number > connection.number, "a number is never used twice");
    }
}
