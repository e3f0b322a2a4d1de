//! One connection: sends calls, receives answers and events.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{collections::VecDeque, fmt};

use zeroize::{Zeroize as _, Zeroizing};

use super::error::{ClientError, is_timeout};
use super::transport::Transport;
use crate::guest::{GuestAccess, guest_access};
use crate::protocol::{
    Answer, Call, ErrorInfo, ErrorKind, EventInfo, FromServer, HelloInfo, HelloParams, MAGIC, PROTOCOL, ServerFrames,
    encode_call,
};

const CHUNK: usize = 16 * 1024;
/// The usual length of a call, so that a buffer with a secret does not grow.
const USUAL_CALL: usize = 1024;
/// The timeout for connecting and for sending.
pub(super) const GREETING: Duration = Duration::from_secs(5);
/// The timeout of the greeting: a service manager that holds the socket may have to start the daemon first, and an
/// older daemon may have to end before.
const START: Duration = Duration::from_secs(15);
/// What helps if the versions differ, and it is not known which side is older.
const RESTART: &str = "run the daemon of this version, without losing a lease: lessor restart";
/// How often a caller that waits for one of two things is asked for the other one.
const STEP: Duration = Duration::from_millis(100);
/// How long a call is sent again that the daemon has no room for.
const OVERLOADED: Duration = Duration::from_secs(5);

/// A connection to the daemon.
pub struct Client {
    stream: Transport,
    frames: ServerFrames,
    chunk: Box<[u8]>,
    out: Vec<u8>,
    next: u64,
    /// The call that was sent with the greeting, encoded, until a call is made.
    ahead: Option<Zeroizing<Vec<u8>>>,
    /// Events that arrived while the client waited for an answer.
    events: VecDeque<EventInfo>,
    /// The socket's current timeout, so that it is set only when it changes.
    timeout: Option<Duration>,
    socket: PathBuf,
    /// The daemon belongs to another user, who shares some accounts: it gets the calls of guests only, and no secret.
    is_of_another_user: bool,
    hello: HelloInfo,
    greeted_in: Duration,
}

impl Client {
    /// Greets the daemon. `ahead` is sent with the greeting: a daemon of another version closes the connection before it
    /// looks at that.
    pub(super) fn greet(
        mut stream: Transport,
        (socket, is_of_another_user): (&Path, bool),
        ahead: Option<&Call>,
    ) -> Result<Self, ClientError> {
        stream.set_send_timeout(GREETING).map_err(ClientError::Lost)?;
        let mut client = Self {
            stream,
            frames: ServerFrames::default(),
            chunk: vec![0; CHUNK].into(),
            out: MAGIC.to_vec(),
            next: 1,
            ahead: None,
            events: VecDeque::new(),
            timeout: None,
            socket: socket.to_owned(),
            is_of_another_user,
            hello: HelloInfo::default(),
            greeted_in: Duration::ZERO,
        };
        let begun = Instant::now();
        let id = client.next;
        encode_call(id, Call::Hello(greeting()), &mut client.out)?;
        if let Some(call) = ahead {
            client.check_call(call)?;
            let mut encoded = Zeroizing::new(Vec::with_capacity(USUAL_CALL));
            encode_call(id + 1, call.clone(), &mut encoded)?;
            client.out.reserve(encoded.len());
            client.out.extend_from_slice(&encoded);
            client.ahead = Some(encoded);
        }
        let hello = match client.exchange(id, (0, MAGIC.len()), Some(START)) {
            Ok(Answer::Hello(hello)) => hello,
            Ok(answer) => return Err(unexpected("hello", &answer)),
            Err(ClientError::Refused(error)) if error.data.kind == ErrorKind::UnsupportedVersion => {
                let hint = error.data.hint.unwrap_or_else(|| "use the same version of both".to_owned());
                return Err(ClientError::Mismatch { message: error.message, hint });
            }
            // the greeting cannot be decoded: the versions differ, and it is not known which side is older
            Err(ClientError::Unexpected(text)) => {
                let message = format!("the daemon does not speak protocol {PROTOCOL} as this lessor does: {text}");
                return Err(ClientError::Mismatch { message, hint: RESTART.to_owned() });
            }
            Err(error) => return Err(error),
        };
        check_protocol(&hello)?;
        (client.hello, client.greeted_in) = (hello, begun.elapsed());
        Ok(client)
    }

    /// The daemon's greeting.
    #[must_use]
    pub fn server(&self) -> &HelloInfo {
        &self.hello
    }

    /// How long the daemon took to answer the greeting.
    #[must_use]
    pub fn greeted_in(&self) -> Duration {
        self.greeted_in
    }

    /// The socket that the client is connected to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn call(&mut self, call: Call, timeout: Option<Duration>) -> Result<Answer<'static>, ClientError> {
        let (id, from) = self.encode(call)?;
        self.exchange(id, (from, 0), timeout)
    }

    /// Secrets and changes are for this user's own daemon.
    fn check_call(&self, call: &Call) -> Result<(), ClientError> {
        if !self.is_of_another_user || guest_access(call) == GuestAccess::Host {
            return Ok(());
        }
        let message =
            format!("{} is of another user, who shares accounts there: only leases can be used", self.socket.display());
        let hint = "unset LESSOR_SOCKET to use this user's own daemon";
        Err(ErrorInfo::new(ErrorKind::NotAllowed, message).hint(hint).into())
    }

    /// Encodes a call; returns its id, and from which byte on it is still to be sent.
    fn encode(&mut self, call: Call) -> Result<(u64, usize), ClientError> {
        self.check_call(&call)?;
        self.next += 1;
        if let Some(sent) = self.ahead.take() {
            encode_call(self.next, call.clone(), &mut self.out)?;
            if *sent == self.out {
                return Ok((self.next, self.out.len()));
            }
            // the answer to the call that was sent ahead must not be taken for the answer to this one
            self.out.zeroize();
            self.next += 1;
        }
        encode_call(self.next, call, &mut self.out)?;
        Ok((self.next, 0))
    }

    /// Sends what is encoded, from this byte on, and waits for the answer to `id`. A call that the daemon had no room for
    /// is sent again, then from another byte on.
    fn exchange(
        &mut self,
        id: u64,
        (mut from, again_from): (usize, usize),
        timeout: Option<Duration>,
    ) -> Result<Answer<'static>, ClientError> {
        let now = Instant::now();
        let (deadline, give_up) = (timeout.map(|timeout| now + timeout), now + OVERLOADED);
        let answer = loop {
            let answer = self.ask(id, from, deadline);
            let Some(delay) = retry_delay(&answer).filter(|delay| Instant::now() + *delay < give_up) else {
                break answer;
            };
            std::thread::sleep(delay);
            from = again_from;
        };
        // it may contain a secret
        self.out.zeroize();
        answer
    }

    /// Makes a call, and asks `stop` every [`STEP`] whether its answer is still wanted.
    pub(super) fn call_unless(
        &mut self,
        call: Call,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Answer<'static>>, ClientError> {
        let (id, from) = self.encode(call)?;
        let sent = self.stream.write_all(&self.out[from..]);
        self.out.zeroize();
        sent.map_err(ClientError::Lost)?;
        loop {
            match self.receive_within(STEP) {
                Ok(FromServer::Answer(to, answer)) if to == id => return Ok(Some(answer)),
                Ok(FromServer::Refusal(to, error)) if to == id || to == 0 => return Err(error.into()),
                Ok(FromServer::Event(event)) => self.events.push_back(*event),
                Ok(FromServer::Answer(..) | FromServer::Refusal(..)) => {}
                Err(ClientError::Lost(error)) if is_timeout(&error) => {
                    if stop() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the call that is encoded, from this byte on, and waits for its answer.
    fn ask(&mut self, id: u64, from: usize, deadline: Option<Instant>) -> Result<Answer<'static>, ClientError> {
        if let Err(error) = self.stream.write_all(&self.out[from..]) {
            // a daemon that closes the connection sends the reason first
            return Err(self.last_words().unwrap_or(ClientError::Lost(error)));
        }
        loop {
            match self.receive(deadline)? {
                FromServer::Answer(to, answer) if to == id => return Ok(answer),
                FromServer::Refusal(to, error) if to == id => return Err(error.into()),
                // refusals of the whole connection have the id 0
                FromServer::Refusal(0, error) => return Err(error.into()),
                FromServer::Event(event) => self.events.push_back(*event),
                // late answers to calls that timed out
                FromServer::Answer(..) | FromServer::Refusal(..) => {}
            }
        }
    }

    pub(super) fn next_event(&mut self) -> Result<EventInfo, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.receive(None)? {
                FromServer::Event(event) => return Ok(*event),
                FromServer::Refusal(0, error) => return Err(error.into()),
                FromServer::Answer(..) | FromServer::Refusal(..) => {}
            }
        }
    }

    /// Waits until the daemon closes the connection; `false` when it does not in time.
    pub fn wait_for_close(&mut self, deadline: Instant) -> bool {
        loop {
            match self.receive(Some(deadline)) {
                Ok(_) => {}
                Err(ClientError::Lost(error)) => return !is_timeout(&error),
                Err(_) => return true,
            }
        }
    }

    /// Waits until the connection ends for any reason.
    pub fn wait_for_end(&mut self) {
        while self.receive(None).is_ok() {}
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Result<FromServer<'static>, ClientError> {
        self.receive_next(|client| client.set_timeout(deadline))
    }

    fn receive_within(&mut self, time: Duration) -> Result<FromServer<'static>, ClientError> {
        self.receive_next(|client| {
            client.timeout = Some(time);
            client.stream.set_recv_timeout(Some(time))
        })
    }

    fn receive_next(
        &mut self,
        set_timeout: impl Fn(&mut Self) -> io::Result<()>,
    ) -> Result<FromServer<'static>, ClientError> {
        loop {
            match self.frames.take() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(ClientError::Unexpected(error.to_string())),
            }
            set_timeout(self).map_err(ClientError::Lost)?;
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.frames.inbox().extend_from_slice(&self.chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")));
                }
                Err(error) => return Err(ClientError::Lost(error)),
            }
        }
    }

    fn set_timeout(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
            // whole seconds, so that the timeout rarely changes
            Some(left) => Some(Duration::from_secs(left.as_secs() + 1)),
            None => None,
        };
        if left != self.timeout {
            self.stream.set_recv_timeout(left)?;
            self.timeout = left;
        }
        Ok(())
    }

    fn last_words(&mut self) -> Option<ClientError> {
        let deadline = Instant::now() + Duration::from_millis(100);
        loop {
            match self.receive(Some(deadline)).ok()? {
                FromServer::Refusal(_, error) => return Some(error.into()),
                FromServer::Answer(..) | FromServer::Event(_) => {}
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // not the buffers: they may contain a credential
        f.debug_struct("Client").field("socket", &self.socket).field("server", &self.hello).finish_non_exhaustive()
    }
}

pub(crate) fn greeting() -> HelloParams {
    HelloParams { client: concat!("lessor ", env!("CARGO_PKG_VERSION")).to_owned(), protocol: (PROTOCOL, PROTOCOL) }
}

pub(super) fn unexpected(call: &str, answer: &Answer<'_>) -> ClientError {
    let answer = format!("{answer:?}");
    // its variant only: the rest may be long
    let kind = answer.split('(').next().unwrap_or_default();
    ClientError::Unexpected(format!("`{kind}` in answer to {call}"))
}

/// When a call is to be sent again that was refused for lack of room before it did anything.
fn retry_delay(answer: &Result<Answer<'static>, ClientError>) -> Option<Duration> {
    let Err(ClientError::Refused(error)) = answer else { return None };
    let after = error.data.retry_after_ms.filter(|_| error.data.kind == ErrorKind::Overloaded)?;
    Some(Duration::from_millis(after))
}

fn check_protocol(hello: &HelloInfo) -> Result<(), ClientError> {
    if hello.protocol == PROTOCOL {
        return Ok(());
    }
    let message = format!(
        "the daemon (version {}, pid {}) speaks protocol {}, this lessor {PROTOCOL}",
        hello.version, hello.pid, hello.protocol
    );
    let hint = if hello.protocol < PROTOCOL {
        "the daemon is older; to replace it without losing a lease: lessor restart"
    } else {
        "this lessor is older: use the version the daemon was installed with"
    };
    Err(ClientError::Mismatch { message, hint: hint.to_owned() })
}
