//! The host's end of a link: each channel that the guest opens becomes a connection to the daemon's socket, with a greeting
//! that says whose it is, or to the gateway.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::mux::{LinkChannel, LinkEnd, LinkGreeting, OpenedChannel, begin_link};
use crate::protocol::{GuestGreeting, GuestRole};

/// The bytes between the threads of standard input and output and the link.
const BESIDE: usize = 64 * 1024;

/// What a host allows its guest, and where its daemon is.
pub struct SharePolicy {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Finds the gateway.
    pub gateway: Box<dyn Fn() -> Option<SocketAddr> + Send + Sync>,
    /// Only these accounts.
    pub only: Option<Vec<String>>,
    /// At most so many leases.
    pub max_leases: Option<u32>,
    /// What the guest is called here, whatever it says of itself.
    pub name: Option<String>,
}

/// Serves a guest over standard input and output until the link or the daemon ends. With a `refusal` the guest only gets
/// that.
///
/// # Errors
/// When the system refuses to create a runtime.
pub fn share_over_stdio(policy: Result<SharePolicy, String>) -> io::Result<LinkEnd> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (input, output) = (standard_input(runtime.handle()), standard_output(runtime.handle()));
    let end = runtime.block_on(serve(policy, input, output));
    // the threads may wait for the other end
    runtime.shutdown_background();
    Ok(end)
}

async fn serve(policy: Result<SharePolicy, String>, input: DuplexStream, output: DuplexStream) -> LinkEnd {
    let (accepts, mut opened) = mpsc::unbounded_channel();
    let greeting = LinkGreeting { refusal: policy.as_ref().err().cloned(), ..LinkGreeting::own() };
    let begun = begin_link(input, output, greeting, Some(accepts)).await;
    let Ok(policy) = policy else { return LinkEnd::Closed };
    let (_handle, _guest, serving) = match begun {
        Ok(begun) => begun,
        Err(end) => return end,
    };
    let policy = Arc::new((policy, Mutex::new(None)));
    let (ended, mut link_ended) = mpsc::channel::<()>(1);
    let accepting = async {
        while let Some(channel) = opened.recv().await {
            let (policy, ended) = (policy.clone(), ended.clone());
            tokio::spawn(async move {
                let is_link = matches!(&channel.purpose, LinkChannel::Socket(of) if of.role == GuestRole::Link);
                connect(&policy.0, &policy.1, channel).await;
                if is_link {
                    // the daemon has ended, or has refused the guest: the guest connects again
                    let _ending = ended.send(()).await;
                }
            });
        }
    };
    tokio::select! {
        end = serving => end,
        () = accepting => LinkEnd::Closed,
        _ = link_ended.recv() => LinkEnd::Closed,
    }
}

/// Connects one channel, until either side ends it.
async fn connect(policy: &SharePolicy, gateway: &Mutex<Option<SocketAddr>>, channel: OpenedChannel) {
    let OpenedChannel { purpose, mut stream, place: _place } = channel;
    // what fails here the guest sees as the end of the channel
    let _ended = match purpose {
        LinkChannel::Socket(greeting) => {
            let Ok(mut daemon) = UnixStream::connect(&policy.socket).await else { return };
            let is_ours = daemon.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw());
            let greeting = GuestGreeting {
                only: policy.only.clone(),
                max_leases: policy.max_leases,
                policy: policy.name.clone(),
                ..*greeting
            };
            if !is_ours || daemon.write_all(&greeting.encode()).await.is_err() {
                return;
            }
            copy_bidirectional(&mut stream, &mut daemon).await
        }
        LinkChannel::Gateway => {
            let Some(mut gateway) = connect_gateway(policy, gateway).await else { return };
            let _without = gateway.set_nodelay(true);
            copy_bidirectional(&mut stream, &mut gateway).await
        }
    };
}

/// The gateway where it was last, or where it is now.
async fn connect_gateway(policy: &SharePolicy, known: &Mutex<Option<SocketAddr>>) -> Option<TcpStream> {
    let last = *known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = last
        && let Ok(stream) = TcpStream::connect(address).await
    {
        return Some(stream);
    }
    // a call to the daemon of this machine
    let address = (policy.gateway)()?;
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    TcpStream::connect(address).await.ok()
}

/// Standard input as it arrives. It is read on a thread: what it is connected to may not be waited for otherwise.
fn standard_input(runtime: &tokio::runtime::Handle) -> DuplexStream {
    let (ours, mut theirs) = duplex(BESIDE);
    let runtime = runtime.clone();
    std::thread::spawn(move || {
        let (mut input, mut chunk) = (io::stdin().lock(), vec![0; BESIDE / 2]);
        loop {
            match input.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if runtime.block_on(theirs.write_all(&chunk[..length])).is_err() {
                        return;
                    }
                }
            }
        }
    });
    ours
}

/// Standard output, written on a thread.
fn standard_output(runtime: &tokio::runtime::Handle) -> DuplexStream {
    let (ours, mut theirs) = duplex(BESIDE);
    let runtime = runtime.clone();
    std::thread::spawn(move || {
        let (mut output, mut chunk) = (io::stdout().lock(), vec![0; BESIDE / 2]);
        while let Ok(length @ 1..) = runtime.block_on(theirs.read(&mut chunk)) {
            if output.write_all(&chunk[..length]).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    ours
}
