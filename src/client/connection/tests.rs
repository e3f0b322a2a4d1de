use super::*;
#[cfg(unix)]
use crate::protocol::ErrorInfo;

/// Answers the greeting, then each call with the next of these.
#[cfg(unix)]
fn serve(listener: &std::os::unix::net::UnixListener, answers: Vec<Result<Answer<'static>, ErrorInfo>>) -> usize {
    use crate::protocol::{Codec, MessageDecoder};
    let (mut stream, _) = listener.accept().unwrap();
    let hello = Answer::Hello(HelloInfo { protocol: PROTOCOL, ..HelloInfo::default() });
    let mut answers = std::iter::once(Ok(hello)).chain(answers);
    let (mut decoder, mut calls) = (MessageDecoder::default(), 0);
    loop {
        let mut received = [0; 1024];
        let length = stream.read(&mut received).unwrap();
        if length == 0 {
            return calls;
        }
        decoder.inbox().extend_from_slice(&received[..length]);
        while let Some(call) = decoder.take().unwrap() {
            calls += 1;
            let (id, mut out) = (call.id.unwrap(), Vec::new());
            match answers.next().unwrap() {
                Ok(answer) => Codec::Binary.answer(&id, &answer, &mut out),
                Err(error) => Codec::Binary.refusal(&id, &error, &mut out),
            }
            stream.write_all(&out).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_call_is_sent_again_when_the_daemon_had_no_room_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let overloaded = |after| {
        let mut error = ErrorInfo::new(ErrorKind::Overloaded, "full");
        error.data.retry_after_ms = after;
        error
    };
    let done = Answer::Done(crate::protocol::Empty {});
    let answers = vec![
        Err(overloaded(Some(1))),
        Err(overloaded(Some(20))),
        Ok(done),
        // neither says that it may be sent again soon
        Err(overloaded(None)),
        Err(overloaded(Some(3_600_000))),
    ];
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, answers));
        let mut client = Client::connect_at(&socket).unwrap();
        let lease = || crate::protocol::LeaseRef { lease: "x".to_owned(), fence: None };
        client.release(lease()).unwrap();
        for _ in 0..2 {
            assert_eq!(client.release(lease()).unwrap_err().kind(), Some(&ErrorKind::Overloaded));
        }
        drop(client);
        assert_eq!(server.join().unwrap(), 6);
    });
}

#[cfg(unix)]
#[test]
fn a_daemon_of_another_user_gets_the_calls_of_guests_only() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, vec![Ok(Answer::Done(crate::protocol::Empty {}))]));
        let mut client = Client::connect_at(&socket).unwrap();
        client.is_of_another_user = true;
        let refused = client.call(Call::Stop(crate::protocol::NoParams {}), None).unwrap_err();
        assert_eq!(refused.kind(), Some(&ErrorKind::NotAllowed));
        client.release(crate::protocol::LeaseRef { lease: "x".to_owned(), fence: None }).unwrap();
        drop(client);
        assert_eq!(server.join().unwrap(), 2, "the greeting and the release");
    });
}

#[cfg(unix)]
fn listen_in(directory: &Path) -> (crate::config::AppPaths, std::os::unix::net::UnixListener) {
    let environment = crate::config::Environment { home: Some(directory.into()), ..Default::default() };
    let paths = crate::config::AppPaths::resolve(&environment).unwrap();
    std::fs::create_dir_all(paths.socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&paths.socket).unwrap();
    (paths, listener)
}

#[cfg(unix)]
#[test]
fn a_call_that_was_sent_ahead_is_sent_once_if_it_is_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let (paths, listener) = listen_in(directory.path());
    let done = || Ok(Answer::Done(crate::protocol::Empty {}));
    let lease = |id: &str| crate::protocol::LeaseRef { lease: id.to_owned(), fence: None };
    for (called, expected) in [("x", 2), ("y", 3)] {
        std::thread::scope(|scope| {
            // an answer to the call ahead is not taken for that to another call
            let server = scope.spawn(|| serve(&listener, vec![done(), done(), done()]));
            let mut client = Client::connect_ahead(&paths, &Call::Release(lease("x"))).unwrap();
            client.release(lease(called)).unwrap();
            client.release(lease("x")).unwrap();
            drop(client);
            assert_eq!(server.join().unwrap(), expected + 1, "{called}");
        });
    }
}

#[cfg(unix)]
#[test]
fn a_daemon_of_another_version_is_reported_as_without_a_call_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let (paths, listener) = listen_in(directory.path());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use crate::protocol::{Codec, MessageDecoder};
            let (mut stream, _) = listener.accept().unwrap();
            let (mut received, mut decoder) = ([0; 1024], MessageDecoder::default());
            let length = stream.read(&mut received).unwrap();
            decoder.inbox().extend_from_slice(&received[..length]);
            let hello = decoder.take().unwrap().unwrap();
            let mut out = Vec::new();
            let error = ErrorInfo::new(ErrorKind::UnsupportedVersion, "another version");
            Codec::Binary.refusal(&hello.id.unwrap(), &error, &mut out);
            // and closes the connection, without a look at the next call
            stream.write_all(&out).unwrap();
        });
        let ahead = Call::Status(crate::protocol::NoParams {});
        let error = Client::connect_ahead(&paths, &ahead).unwrap_err();
        assert!(matches!(error, ClientError::Mismatch { .. }), "{error:?}");
    });
}

#[test]
fn a_protocol_mismatch_names_the_older_side() {
    let hello = |protocol| HelloInfo { version: "9.9".into(), protocol, ..HelloInfo::default() };
    assert!(check_protocol(&hello(PROTOCOL)).is_ok());
    for (protocol, older) in [(PROTOCOL - 1, "the daemon is older"), (PROTOCOL + 1, "this lessor is older")] {
        let Err(ClientError::Mismatch { message, hint }) = check_protocol(&hello(protocol)) else {
            panic!("{protocol} is accepted")
        };
        assert!(message.contains("9.9") && hint.contains(older), "{message} {hint}");
    }
}
