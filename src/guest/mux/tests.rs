use super::*;

/// Both ends of a link over memory, and what has become of each.
struct Linked {
    guest: LinkHandle,
    opened: mpsc::UnboundedReceiver<OpenedChannel>,
    _host: LinkHandle,
    ends: [tokio::task::JoinHandle<LinkEnd>; 2],
}

async fn linked() -> Linked {
    let (here, there) = duplex(4096);
    let ((here_read, here_write), (there_read, there_write)) = (tokio::io::split(here), tokio::io::split(there));
    let (accepts, opened) = mpsc::unbounded_channel();
    let (guest, host) = tokio::join!(
        begin_link(here_read, here_write, LinkGreeting::own(), None),
        begin_link(there_read, there_write, LinkGreeting::own(), Some(accepts)),
    );
    let ((guest, _, of_guest), (_host, _, of_host)) = (guest.unwrap(), host.unwrap());
    Linked { guest, opened, _host, ends: [tokio::spawn(of_guest), tokio::spawn(of_host)] }
}

#[tokio::test]
async fn a_channel_carries_bytes_both_ways_and_its_ends() {
    let mut linked = linked().await;
    let mut guest = linked.guest.open(&LinkChannel::Gateway).await.unwrap();
    let OpenedChannel { purpose, stream: mut host } = linked.opened.recv().await.unwrap();
    assert_eq!(purpose, LinkChannel::Gateway);
    // more than a window
    let sent: Vec<u8> = (0..5 * WINDOW).map(|number| number as u8).collect();
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        guest.write_all(&copy).await.unwrap();
        guest.shutdown().await.unwrap();
        let mut back = Vec::new();
        guest.read_to_end(&mut back).await.unwrap();
        back
    });
    let mut received = Vec::new();
    host.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    host.write_all(b"done").await.unwrap();
    drop(host);
    assert_eq!(sending.await.unwrap(), b"done");
}

#[tokio::test]
async fn a_channel_that_is_not_read_holds_up_no_other_and_little_is_kept() {
    let mut linked = linked().await;
    let mut slow = linked.guest.open(&LinkChannel::Gateway).await.unwrap();
    let _unread = linked.opened.recv().await.unwrap();
    let mut written = 0;
    let chunk = vec![7; 4096];
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(200), slow.write(&chunk)).await {
        written += result.unwrap();
    }
    assert!(written <= WINDOW + 2 * BESIDE + MOST_DATA, "{written}");
    let mut quick = linked.guest.open(&LinkChannel::Gateway).await.unwrap();
    let mut host = linked.opened.recv().await.unwrap().stream;
    quick.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    host.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn a_channel_whose_user_is_gone_is_closed_at_both_ends() {
    let mut linked = linked().await;
    let mut guest = linked.guest.open(&LinkChannel::Gateway).await.unwrap();
    drop(linked.opened.recv().await.unwrap());
    let mut rest = Vec::new();
    guest.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    drop(guest);
    while !linked.guest.channels.open().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_end_of_a_link_ends_its_channels() {
    let mut linked = linked().await;
    let mut guest = linked.guest.open(&LinkChannel::Gateway).await.unwrap();
    let _stream = linked.opened.recv().await.unwrap();
    linked.ends[1].abort();
    let mut rest = Vec::new();
    guest.read_to_end(&mut rest).await.unwrap();
    assert_eq!((&mut linked.ends[0]).await.unwrap(), LinkEnd::Closed);
    assert!(linked.guest.open(&LinkChannel::Gateway).await.is_none());
}

#[tokio::test]
async fn too_many_channels_are_refused() {
    let linked = linked().await;
    let mut open = Vec::new();
    while let Some(stream) = linked.guest.open(&LinkChannel::Gateway).await {
        open.push(stream);
    }
    assert_eq!(open.len(), MOST_CHANNELS);
}

#[tokio::test]
async fn another_version_is_refused_and_named() {
    let (here, there) = duplex(4096);
    let ((here_read, here_write), (there_read, there_write)) = (tokio::io::split(here), tokio::io::split(there));
    let other = LinkGreeting { version: "0.0.1".into(), ..LinkGreeting::own() };
    let (guest, _host) = tokio::join!(
        begin_link(here_read, here_write, LinkGreeting::own(), None),
        begin_link(there_read, there_write, other, None),
    );
    let Err(end) = guest else { panic!("it was accepted") };
    assert!(end.to_string().contains("0.0.1"), "{end}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_given_up() {
    let (here, there) = duplex(1 << 20);
    let (here_read, here_write) = tokio::io::split(here);
    let (mut there_read, mut there_write) = tokio::io::split(there);
    let mut greeting = Vec::new();
    LinkFrame::Greeting(serde_json::to_vec(&LinkGreeting::own()).unwrap()).encode(&mut greeting);
    there_write.write_all(&greeting).await.unwrap();
    let (_handle, _, serving) = begin_link(here_read, here_write, LinkGreeting::own(), None).await.ok().unwrap();
    let serving = tokio::spawn(serving);
    let mut asked = vec![0; 4096];
    let _arrived = there_read.read(&mut asked).await.unwrap();
    assert_eq!(serving.await.unwrap(), LinkEnd::Silent);
}
