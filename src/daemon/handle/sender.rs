//! The process that sends a request, for the record of the request: its program and its directory. It is looked up once
//! for each connection and without the state lock; where that takes long, on another thread and while there is room.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::GatewayHandle;
use super::client::GatewayClient;
use super::peer::{GatewayPeer, PeerEnd, RequestSender};
use crate::daemon::os::{peer_process, process};
use crate::pool::Process;
use crate::protocol::HolderInfo;

/// The sender of a request.
#[derive(Debug)]
pub enum SenderLookup {
    /// It was looked up.
    Known(Arc<RequestSender>),
    /// It is being looked up on another thread.
    UnderWay(watch::Receiver<Option<Arc<RequestSender>>>),
}

/// What the lease of a key says of its holder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyHolderFacts {
    /// The agent that it states.
    pub agent: Option<Arc<str>>,
    /// Its label.
    pub label: Option<Arc<str>>,
    /// Its process.
    pub process: Option<Process>,
}

impl SenderLookup {
    /// The sender, when it is known; an empty one if it cannot be found.
    pub async fn known(self) -> Arc<RequestSender> {
        match self {
            Self::Known(sender) => sender,
            Self::UnderWay(mut found) => {
                let found = found.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
                found.unwrap_or_default()
            }
        }
    }
}

impl GatewayHandle {
    /// The process that sends the requests of a connection: the holder of the key's lease, else the program at the other
    /// end.
    pub fn sender(&self, peer: &Arc<GatewayPeer>, holder: Option<Process>) -> SenderLookup {
        let mut known = peer.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, sender)) = &known.last
            && *of == holder
        {
            return SenderLookup::Known(sender.clone());
        }
        let process = match (holder, peer.end) {
            (Some(process), _) | (None, PeerEnd::Process(process)) => Some(process),
            (None, PeerEnd::Tcp(..)) => None,
            (None, PeerEnd::Unknown) => return SenderLookup::Known(Arc::default()),
        };
        if let Some(process) = process.filter(|process| process.guest().is_some()) {
            let program = self.daemon.guest_names.get(process).map(|program| program.to_string());
            let holder = Some(Arc::new(HolderInfo { pid: process.pid, program }));
            return SenderLookup::Known(Arc::new(RequestSender { holder, directory: None }));
        }
        if let Some(process) = process {
            // a few reads, once for each connection
            let found = Arc::new(RequestSender::of(process));
            known.last = Some((holder, found.clone()));
            return SenderLookup::Known(found);
        }
        if let Some(awaited) = &known.awaited {
            let found = awaited.borrow().clone();
            return found.map_or_else(|| SenderLookup::UnderWay(awaited.clone()), SenderLookup::Known);
        }
        // with others under way, the next request of the connection is soon enough
        let Some(room) = self.daemon.attest.for_records.try_enter() else { return SenderLookup::Known(Arc::default()) };
        let (publish, awaited) = watch::channel(None);
        known.awaited = Some(awaited.clone());
        let (handle, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            let _room = room;
            let lookups = &handle.daemon.attest.lookups;
            let first = peer.ancestry(lookups).await.ok().and_then(|all| Some(all.first()?.process));
            let found = match first {
                Some(process) => lookups.run(move || RequestSender::of(process)).await.unwrap_or_default(),
                None => RequestSender::default(),
            };
            publish.send_replace(Some(Arc::new(found)));
        });
        SenderLookup::UnderWay(awaited)
    }

    /// What is known of a client that has no lease now: its key names it, or the lease of its key.
    #[must_use]
    pub fn key_holder_facts(&self, client: &GatewayClient) -> KeyHolderFacts {
        let own = KeyHolderFacts { agent: client.agent.clone(), label: client.label.clone(), process: None };
        let Some((fence, process)) = client.lease else { return own };
        let state = &mut *self.state();
        let holder = state.key_holder(fence, process).and_then(|first| state.key_holders.get(first));
        let Some(request) = holder.map(|holder| &holder.request) else { return KeyHolderFacts { process, ..own } };
        KeyHolderFacts {
            agent: request.agent.clone(),
            label: request.label.clone(),
            process: process.or(request.holder.process),
        }
    }
}

impl RequestSender {
    fn of(process: Process) -> Self {
        let found = process::find(process.pid).ok().flatten().filter(|found| found.process == process);
        let program = found.as_ref().and_then(|found| found.program.as_deref()).map(str::to_owned);
        let directory = found.is_some().then(|| peer_process::directory_of(process.pid)).flatten();
        let holder = Some(Arc::new(HolderInfo { pid: process.pid, program }));
        Self { holder, directory: directory.map(Into::into) }
    }
}
