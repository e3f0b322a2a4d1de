use super::*;
use crate::daemon::api::reply::tests::TestDaemon;
use crate::pool::Process;
use crate::protocol::{AcquireParams, NoParams, SubscribeParams};

struct Scene {
    relay: Relay,
    test: TestDaemon,
}

impl Scene {
    fn new() -> Self {
        let test = TestDaemon::new(&[]);
        let relay = Relay {
            daemon: test.daemon.clone(),
            codec: Codec::Json,
            outbox: Arc::default(),
            pending: Vec::new(),
            subscription: None,
            failures: 0,
        };
        Self { relay, test }
    }

    /// What is sent for a call.
    fn take(&mut self, id: u64, call: Call, holder: Option<GuestHolder>) -> String {
        self.relay.outbox.begin_wait();
        let call = RelayedCall { id: Some(RequestId::Number(id)), call, holder };
        text(&self.relay.take(call).unwrap())
    }

    fn answer(&mut self, bytes: &str) -> bool {
        let mut answers = AnswerSplitter::new(Codec::Json);
        answers.push(bytes.as_bytes());
        self.relay.pass_on(&mut answers)
    }

    /// What the client has got since.
    fn received(&self) -> String {
        let mut out = Vec::new();
        self.relay.outbox.drain_into(&mut out);
        text(&out)
    }

    /// A process here that holds leases.
    fn holder(&self, pid: u32) -> GuestHolder {
        self.test.daemon.host_link.process_holder(Process { pid, start: 1 }, Some("claude"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn acquire() -> Call {
    Call::Acquire(Box::new(AcquireParams { provider: "anthropic".to_owned(), ..AcquireParams::default() }))
}

#[tokio::test]
async fn a_call_without_an_answer_is_sent_again_as_it_was_after_its_holder() {
    let mut scene = Scene::new();
    let holder = scene.holder(7);
    let sent = scene.take(1, acquire(), Some(holder));
    let lines: Vec<&str> = sent.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("guest.holders") && lines[1].contains("lease.acquire"), "{sent}");
    // the host knows by it that it is the same call
    assert!(lines[1].contains("\"request_id\":\"relay-"), "{sent}");
    assert_eq!(text(&scene.relay.beginning()), sent);
    assert!(scene.answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"));
    assert_eq!((text(&scene.relay.beginning()), scene.relay.failures), (String::new(), 0));
    assert!(scene.received().contains("\"id\":1"));
}

#[tokio::test]
async fn a_request_id_of_the_client_stays() {
    let mut scene = Scene::new();
    let Call::Acquire(params) = acquire() else { panic!() };
    let named = AcquireParams { request_id: Some("mine".to_owned()), ..*params };
    let sent = scene.take(1, Call::Acquire(Box::new(named)), None);
    assert!(sent.contains("\"request_id\":\"mine\""), "{sent}");
}

#[tokio::test]
async fn a_call_whose_holder_has_ended_without_a_link_is_not_sent_again() {
    let mut scene = Scene::new();
    let (ended, lives) = (scene.holder(7), scene.holder(8));
    scene.take(1, acquire(), Some(ended));
    scene.take(2, acquire(), Some(lives));
    scene.test.daemon.host_link.process_ended(Process { pid: 7, start: 1 });
    scene.relay.refuse_for_ended_holders();
    let again = text(&scene.relay.beginning());
    assert!(!again.contains("\"id\":1,") && again.contains("\"id\":2,"), "{again}");
    let refused = scene.received();
    assert!(refused.contains("\"id\":1,") && refused.contains("has ended"), "{refused}");
}

#[tokio::test]
async fn a_subscription_is_made_again_on_each_channel_and_its_events_are_passed_on() {
    let mut scene = Scene::new();
    let sent = scene.take(1, Call::Subscribe(SubscribeParams::default()), None);
    assert_eq!(text(&scene.relay.beginning()), sent, "once while it has no answer");
    scene.answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
    scene.received();
    assert_eq!(text(&scene.relay.beginning()), sent);
    // its second answer is none to the client
    scene.answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
    assert_eq!(scene.received(), "");
    let event = "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{}}\n";
    scene.answer(event);
    assert_eq!(scene.received(), event);
    scene.relay.refuse_all(&unreachable_host(None));
    assert!(scene.relay.outbox.is_closed(), "a subscriber connects again");
}

#[tokio::test]
async fn without_a_link_every_call_is_refused_once_and_nothing_is_left_of_it() {
    let mut scene = Scene::new();
    for id in 1..4 {
        scene.take(id, Call::Status(NoParams::default()), None);
    }
    scene.relay.refuse_all(&unreachable_host(Some("the cable is out")));
    let refused = scene.received();
    assert_eq!(refused.matches("host_unreachable").count(), 3, "{refused}");
    assert!(refused.contains("the cable is out") && scene.relay.beginning().is_empty());
}

#[tokio::test]
async fn what_is_no_answer_ends_the_channel() {
    let mut scene = Scene::new();
    scene.take(1, Call::Status(NoParams::default()), None);
    assert!(!scene.answer("Welcome to the machine\n"));
    assert!(!scene.relay.beginning().is_empty(), "it is sent again on the next one");
}

#[tokio::test]
async fn a_question_how_this_daemon_is_does_not_wait_for_the_link() {
    let mut scene = Scene::new();
    let (calls, received) = mpsc::unbounded_channel();
    let outbox = scene.relay.outbox.clone();
    for (id, call) in [(1, acquire()), (2, Call::Status(NoParams::default()))] {
        outbox.begin_wait();
        calls.send(RelayedCall { id: Some(RequestId::Number(id)), call, holder: None }).unwrap();
    }
    // the link was up when they were sent on, and has ended since
    let down = HostState::Down { since: clock::now(), why: Some("the cable is out".into()), is_over: false };
    scene.test.daemon.host_link.state.send_replace(down);
    let relaying = tokio::spawn(std::mem::replace(&mut scene.relay, Scene::new().relay).run(received));
    outbox.changed().await;
    let mut answer = Vec::new();
    outbox.drain_into(&mut answer);
    let answer = text(&answer);
    assert!(answer.contains("\"id\":2") && !answer.contains("\"id\":1"), "{answer}");
    relaying.abort();
}
