//! What a session does with the news: which hosts are silent, what `status` shows, and where the next reading begins.

use std::time::Duration;

use super::{PoolSession, TaskEnd};
use crate::daemon::many_hosts::news::AppliedNews;
use crate::daemon::many_hosts::status::SeenHost;
use crate::daemon::os::clock;
use crate::pool::Mono;
use crate::shared_pool::{PoolNews, TermId};

/// Accounts whose keys this host does not have yet, or which it has moved meanwhile, are read again after this time.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

impl PoolSession<'_> {
    /// Ends the terms of hosts whose heartbeat stands still for longer than their seats can be valid.
    pub(super) fn look_for_silent_terms(&mut self, news: &PoolNews, sent: Mono, received: Mono) {
        let Some((_, silent)) = &mut self.memory.silent else { return };
        let found = silent.look(&news.beats, Some(self.term.id), sent, received);
        self.note_beats(news, received);
        for (term, beat) in found {
            self.count(1);
            let (client, name) = (self.client.clone(), self.host_of(term));
            self.tasks.spawn(async move {
                TaskEnd::Other(client.end_silent_term(term, beat).await.map(|has_ended| {
                    if has_ended {
                        tracing::info!(
                            term = term.0,
                            "{name} of the shared pool is silent: its seats are free for other hosts"
                        );
                    }
                }))
            });
        }
    }

    fn host_of(&self, term: TermId) -> String {
        let status = self.daemon.many_hosts.status();
        let host = status.hosts.iter().find(|seen| seen.host.terms.contains(&term));
        host.map_or_else(|| "a host".to_owned(), |seen| format!("the host {}", seen.host.name))
    }

    /// Notes which hosts are alive, for `status`.
    fn note_beats(&self, news: &PoolNews, received: Mono) {
        let own = self.target.membership.host;
        self.daemon.many_hosts.change_status(|status| {
            if news.full {
                let is_listed = |seen: &SeenHost| news.hosts.iter().any(|host| host.id == seen.host.id);
                status.hosts.retain(is_listed);
            }
            for host in &news.hosts {
                match status.hosts.iter_mut().find(|seen| seen.host.id == host.id) {
                    Some(seen) => seen.host = host.clone(),
                    None => status.hosts.push(SeenHost::new(host.clone(), host.id == own)),
                }
            }
            status.hosts.sort_unstable_by(|a, b| a.host.name.cmp(&b.host.name));
            for seen in &mut status.hosts {
                seen.note_beats(&news.beats, received);
            }
        });
    }

    pub(super) fn news_applied(&mut self, applied: AppliedNews) {
        let AppliedNews { news, adopted, is_outdated } = applied;
        self.daemon.many_hosts.change_status(|status| {
            if news.full {
                status.left_out.clear();
            }
            let is_new = |id| adopted.used.contains(&id) || adopted.left_out.iter().any(|(new, _)| *new == id);
            status.left_out.retain(|(id, _)| !is_new(*id) && !news.removed.contains(id));
            status.left_out.extend(adopted.left_out);
        });
        if adopted.needs_keys {
            // the keys are read before the accounts: they were replaced between the two
            self.memory.read_all();
            self.news.ask(clock::now().mono.after(AGAIN_PAUSE));
        } else if self.memory.incarnation != Some(news.incarnation) {
            self.memory.incarnation = Some(news.incarnation);
            self.forget_database();
        } else if is_outdated {
            // from the same position
            self.news.ask(clock::now().mono.after(AGAIN_PAUSE));
        } else {
            self.memory.position = Some(news.position);
        }
        if news.settings_changed {
            self.count(1);
            let client = self.client.clone();
            self.tasks.spawn(async move { TaskEnd::Info(client.pool_info().await) });
        }
    }
}
