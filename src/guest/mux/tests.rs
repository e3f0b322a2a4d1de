use tokio::io::duplex;

use super::channel::{BESIDE, WINDOW};
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
    let OpenedChannel { purpose, stream: mut host, place: _place } = linked.opened.recv().await.unwrap();
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
    while linked.guest.channels.count() > 0 {
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

/// A host's end of a link whose other end sends what it likes.
struct Attacked {
    attacker: DuplexStream,
    opened: mpsc::UnboundedReceiver<OpenedChannel>,
    host: LinkHandle,
    end: tokio::task::JoinHandle<LinkEnd>,
}

impl Attacked {
    async fn begin() -> Self {
        let (mut attacker, there) = duplex(1 << 20);
        let (there_read, there_write) = tokio::io::split(there);
        let (accepts, opened) = mpsc::unbounded_channel();
        let mut greeting = Vec::new();
        LinkFrame::Greeting(serde_json::to_vec(&LinkGreeting::own()).unwrap()).encode(&mut greeting);
        attacker.write_all(&greeting).await.unwrap();
        let begun = begin_link(there_read, there_write, LinkGreeting::own(), Some(accepts)).await;
        let (host, _, serving) = begun.ok().unwrap();
        Self { attacker, opened, host, end: tokio::spawn(serving) }
    }

    async fn send(&mut self, frames: impl IntoIterator<Item = LinkFrame>) {
        let mut bytes = Vec::new();
        frames.into_iter().for_each(|frame| frame.encode(&mut bytes));
        // the host may have ended the link in the middle
        let _ended = self.attacker.write_all(&bytes).await;
    }

    /// Reads what the host sends until a frame is one that is waited for.
    async fn wait_for(&mut self, is_it: impl Fn(&LinkFrame) -> bool) {
        let (mut decoder, mut chunk) = (FrameDecoder::default(), vec![0; 4096]);
        loop {
            while let Some(frame) = decoder.take().unwrap() {
                if is_it(&frame) {
                    return;
                }
            }
            let length = self.attacker.read(&mut chunk).await.unwrap();
            assert_ne!(length, 0, "the link has ended");
            decoder.push(&chunk[..length]);
        }
    }
}

fn open(number: u32) -> LinkFrame {
    LinkFrame::Open(number, serde_json::to_vec(&LinkChannel::Gateway).unwrap())
}

#[tokio::test]
async fn what_breaks_the_rules_of_a_channel_ends_the_link() {
    let cases: [(&str, Vec<LinkFrame>); 6] = [
        ("no purpose", vec![LinkFrame::Open(1, b"{}".to_vec())]),
        ("another greeting", vec![LinkFrame::Greeting(b"{}".to_vec())]),
        (
            "more than a window",
            vec![open(1); 1].into_iter().chain(vec![LinkFrame::Data(1, vec![0; MOST_DATA]); 6]).collect(),
        ),
        ("more credit than a window", vec![open(1), LinkFrame::Window(1, 1)]),
        ("credit beyond all numbers", vec![open(1), LinkFrame::Window(1, u32::MAX)]),
        ("data after its end", vec![open(1), LinkFrame::Finish(1), LinkFrame::Data(1, vec![1])]),
    ];
    for (what, frames) in cases {
        let mut attacked = Attacked::begin().await;
        attacked.send(frames).await;
        assert_eq!((&mut attacked.end).await.unwrap(), LinkEnd::Broken, "{what}");
    }
}

#[tokio::test]
async fn small_and_empty_frames_take_no_more_memory_than_a_window() {
    let mut attacked = Attacked::begin().await;
    attacked.send([open(1)]).await;
    let _unread = attacked.opened.recv().await.unwrap();
    for _ in 0..100 {
        attacked.send(vec![LinkFrame::Data(1, Vec::new()); 1000]).await;
    }
    for _ in 0..100 {
        attacked.send(vec![LinkFrame::Data(1, vec![7]); 1000]).await;
    }
    attacked.send([LinkFrame::Ping]).await;
    attacked.wait_for(|frame| *frame == LinkFrame::Pong).await;
    let kept = attacked.host.channels.kept(1);
    assert!(kept <= 2 * WINDOW, "{kept} bytes are kept of 100000");
}

#[tokio::test]
async fn channels_that_are_opened_and_closed_again_are_bounded() {
    let mut attacked = Attacked::begin().await;
    // nothing reads or ends what was begun for them
    let mut begun = Vec::new();
    for number in 0..3 * MOST_CHANNELS as u32 {
        attacked.send([open(number), LinkFrame::Data(number, vec![1; 100]), LinkFrame::Close(number)]).await;
        while let Ok(channel) = attacked.opened.try_recv() {
            begun.push(channel);
        }
        tokio::task::yield_now().await;
    }
    attacked.send([LinkFrame::Ping]).await;
    attacked.wait_for(|frame| *frame == LinkFrame::Pong).await;
    while let Ok(channel) = attacked.opened.try_recv() {
        begun.push(channel);
    }
    assert_eq!(begun.len(), MOST_CHANNELS);
    // when they have ended, others may be opened
    begun.clear();
    attacked.send([open(u32::MAX)]).await;
    assert!(attacked.opened.recv().await.is_some());
}

#[tokio::test]
async fn each_channel_that_is_refused_is_closed_however_many_come_at_once() {
    let mut attacked = Attacked::begin().await;
    let (most, all) = (MOST_CHANNELS as u32, 4 * MOST_CHANNELS as u32);
    attacked.send((0..all).map(open)).await;
    let closed = std::cell::RefCell::new(std::collections::BTreeSet::new());
    attacked
        .wait_for(|frame| {
            let mut closed = closed.borrow_mut();
            if let LinkFrame::Close(number) = frame {
                closed.insert(*number);
            }
            closed.len() == (all - most) as usize
        })
        .await;
    assert!(closed.into_inner().into_iter().eq(most..all));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_opens_without_end_and_reads_nothing_is_given_up() {
    let mut attacked = Attacked::begin().await;
    let frames = (0..200_000).map(open);
    attacked.send(frames).await;
    assert_eq!((&mut attacked.end).await.unwrap(), LinkEnd::Broken);
}

#[tokio::test]
async fn a_channel_that_is_closed_gives_its_user_what_had_arrived() {
    let mut attacked = Attacked::begin().await;
    attacked.send([open(1), LinkFrame::Data(1, b"last words".to_vec()), LinkFrame::Close(1)]).await;
    let mut channel = attacked.opened.recv().await.unwrap();
    let mut words = Vec::new();
    channel.stream.read_to_end(&mut words).await.unwrap();
    assert_eq!(words, b"last words");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_reads_nothing_is_given_up() {
    let mut attacked = Attacked::begin().await;
    attacked.send([open(1)]).await;
    let mut channel = attacked.opened.recv().await.unwrap();
    // it has stopped half-way: nothing more comes, and nothing more is taken
    let answering = tokio::spawn(async move { while channel.stream.write_all(&[0; 4096]).await.is_ok() {} });
    assert_eq!((&mut attacked.end).await.unwrap(), LinkEnd::Silent);
    answering.await.unwrap();
}
