//! An OAuth server of its own, on a real socket: it rotates refresh tokens, notices when one is used twice, and fails
//! as configured.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// How the next request to the token endpoint is treated.
#[derive(Clone, Debug, PartialEq)]
pub enum Fail {
    /// Answered with this status, this error and this `Retry-After`; nothing is rotated.
    Status(u16, &'static str, Option<u32>),
    /// The connection is closed; nothing is rotated.
    CloseBefore,
    /// The connection is closed, but the token has been rotated.
    CloseAfter,
    /// Rotated immediately, and answered when released.
    HoldAfter,
    /// Rotated and answered when released.
    HoldBefore,
    /// A malformed success; the token has been rotated.
    Nonsense,
}

#[derive(Default)]
struct State {
    /// Valid refresh tokens: their login, and the previous token if it is still accepted.
    living: HashMap<String, String>,
    /// Used refresh tokens: their login, and their successor.
    used: HashMap<String, (String, String)>,
    /// Logins that were revoked, because a token was used twice.
    revoked: HashSet<String>,
    /// The clients of logins that `test-client` did not make.
    clients: HashMap<String, String>,
    /// The programs that requests name.
    agents: HashSet<String>,
    reuses: usize,
    refreshes: HashMap<String, usize>,
    requests: usize,
    running: usize,
    most_running: usize,
    issued: u64,
    fails: VecDeque<Fail>,
    always: Option<Fail>,
    held: usize,
    let_go: bool,
    /// How long a request takes before the token is rotated, and after that.
    takes: (Duration, Duration),
    /// The lifetime of access tokens, in seconds.
    life: u64,
    lenient: bool,
    /// Codes that wait to be exchanged: their challenge and redirect.
    codes: HashMap<String, (String, String)>,
    /// How often the device code was polled, and whether the user has confirmed.
    polls: usize,
    device_done: bool,
    /// Fields that answers with tokens have instead, or beside the others.
    fields: Option<Value>,
    /// The parameters of the last login, and of the last request for tokens.
    asked: HashMap<String, String>,
    form: HashMap<String, String>,
}

/// The server.
#[derive(Clone)]
pub struct OauthServer {
    pub url: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl OauthServer {
    /// Strict: a token that is used twice revokes its login.
    pub fn start() -> Self {
        Self::with(false)
    }

    /// A used token is accepted until its successor is used.
    pub fn lenient() -> Self {
        Self::with(true)
    }

    fn with(lenient: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { life: 3600, lenient, ..State::default() };
        let server = Self { url, shared: Arc::new((Mutex::new(state), Condvar::new())) };
        let theirs = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = theirs.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// A configuration that uses it for a provider.
    pub fn config(&self, provider: &str) -> String {
        format!("[providers.{provider}.oauth]\nissuer = \"{}\"\nclient_id = \"test-client\"\n", self.url)
    }

    /// A login of `who`; its refresh token.
    pub fn login(&self, who: &str) -> String {
        let token = format!("rt-canary-{who}-0");
        self.state().living.insert(token.clone(), who.to_owned());
        token
    }

    /// A login of `who` that another client made.
    pub fn login_of(&self, who: &str, client: &str) -> String {
        self.state().clients.insert(who.to_owned(), client.to_owned());
        self.login(who)
    }

    /// The programs that requests have named.
    pub fn agents(&self) -> Vec<String> {
        self.state().agents.iter().cloned().collect()
    }

    /// From now on, answers with tokens have these fields instead, or beside the others.
    pub fn answer_with(&self, fields: Value) {
        self.state().fields = Some(fields);
    }

    pub fn fail(&self, how: Fail) {
        self.state().fails.push_back(how);
    }

    pub fn fail_always(&self, how: Option<Fail>) {
        self.state().always = how;
    }

    /// From now on, a request takes this long before the token is rotated, and after that.
    pub fn take(&self, before: Duration, after: Duration) {
        self.state().takes = (before, after);
    }

    pub fn running(&self) -> usize {
        self.state().running
    }

    pub fn revoke(&self, who: &str) {
        self.state().revoked.insert(who.to_owned());
    }

    /// How often the login of `who` was refreshed.
    pub fn refreshes(&self, who: &str) -> usize {
        self.state().refreshes.get(who).copied().unwrap_or(0)
    }

    pub fn requests(&self) -> usize {
        self.state().requests
    }

    pub fn most_running(&self) -> usize {
        self.state().most_running
    }

    pub fn reuses(&self) -> usize {
        self.state().reuses
    }

    pub fn held(&self) -> usize {
        self.state().held
    }

    pub fn let_go(&self) {
        self.state().let_go = true;
        self.shared.1.notify_all();
    }

    pub fn polls(&self) -> usize {
        self.state().polls
    }

    /// A parameter of the last login.
    pub fn asked(&self, name: &str) -> String {
        self.state().asked[name].clone()
    }

    /// A parameter of the last request for tokens.
    pub fn form(&self, name: &str) -> String {
        self.state().form[name].clone()
    }

    pub fn finish_device(&self) {
        self.state().device_done = true;
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (method, target, agent, body) = request(&mut reader)?;
            if path_of(&target) != "/authorize" {
                self.state().agents.insert(agent);
            }
            let path = path_of(&target).to_owned();
            let (status, extra, answer) = match (method.as_str(), path.as_str()) {
                ("GET", "/.well-known/openid-configuration") => (200, String::new(), self.discovery()),
                ("GET", "/authorize") => {
                    let to = self.authorize(&target);
                    (302, format!("location: {to}\r\n"), json!({}))
                }
                ("POST", "/device") => {
                    let answer = json!({ "device_code": "dc", "user_code": "WDJB-MJHT", "interval": 1,
                        "verification_uri": format!("{}/activate", self.url), "expires_in": 60 });
                    (200, String::new(), answer)
                }
                ("POST", "/token") => {
                    {
                        let state = &mut *self.state();
                        state.requests += 1;
                        state.running += 1;
                        state.most_running = state.most_running.max(state.running);
                    }
                    let answered = self.token(&body);
                    self.state().running -= 1;
                    answered?
                }
                _ => (404, String::new(), json!({})),
            };
            let answer = answer.to_string();
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            (&stream).write_all(text.as_bytes()).ok()?;
        }
    }

    fn discovery(&self) -> Value {
        let url = &self.url;
        json!({ "issuer": url, "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"), "device_authorization_endpoint": format!("{url}/device") })
    }

    /// Confirms each login, and redirects with a code.
    fn authorize(&self, target: &str) -> String {
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(target.split_once('?').unwrap().1.as_bytes()).into_owned().collect();
        assert_eq!((query["response_type"].as_str(), query["code_challenge_method"].as_str()), ("code", "S256"));
        assert_eq!(query["client_id"], "test-client");
        self.state().asked.clone_from(&query);
        let code = format!("code-{}", self.state().codes.len());
        let kept = (query["code_challenge"].clone(), query["redirect_uri"].clone());
        self.state().codes.insert(code.clone(), kept);
        format!("{}?code={code}&state={}", query["redirect_uri"], query["state"])
    }

    fn token(&self, body: &str) -> Option<(u16, String, Value)> {
        let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        self.state().form.clone_from(&form);
        let refuse = |error: &str| Some((400, String::new(), json!({ "error": error })));
        let fail = {
            let state = &mut *self.state();
            state.fails.pop_front().or_else(|| state.always.clone())
        };
        match &fail {
            Some(Fail::Status(status, error, wait)) => {
                let wait = wait.map(|wait| format!("retry-after: {wait}\r\n")).unwrap_or_default();
                return Some((*status, wait, json!({ "error": error, "error_description": "canary" })));
            }
            Some(Fail::CloseBefore) => return None,
            Some(Fail::HoldBefore) => self.hold(),
            _ => {}
        }
        let client = form.get("client_id").map(String::as_str);
        if client != Some("test-client") && !self.state().clients.values().any(|known| Some(known.as_str()) == client) {
            return refuse("invalid_client");
        }
        if let Some(token) = form.get("refresh_token") {
            let state = &*self.state();
            let maker =
                state.living.get(token).and_then(|who| state.clients.get(who)).map_or("test-client", String::as_str);
            if client != Some(maker) {
                return Some((401, String::new(), json!({ "error": "unauthorized_client" })));
            }
        }
        let (before, after) = self.state().takes;
        std::thread::sleep(before);
        let answered = match form["grant_type"].as_str() {
            "refresh_token" => self.refresh(&form["refresh_token"]),
            "authorization_code" => self.redeem(&form),
            _ => {
                let state = &mut *self.state();
                state.polls += 1;
                if state.device_done { Ok(state.issue("device")) } else { Err("authorization_pending") }
            }
        };
        std::thread::sleep(after);
        match fail {
            Some(Fail::CloseAfter) => return None,
            Some(Fail::HoldAfter) => self.hold(),
            Some(Fail::Nonsense) => return Some((200, String::new(), json!({ "hello": "there" }))),
            _ => {}
        }
        match answered {
            Ok(answer) => Some((200, String::new(), answer)),
            Err(error) => refuse(error),
        }
    }

    /// Waits until it is released.
    fn hold(&self) {
        let mut state = self.state();
        state.held += 1;
        while !state.let_go {
            state = self.shared.1.wait(state).unwrap();
        }
        state.held -= 1;
        if state.held == 0 {
            state.let_go = false;
        }
    }

    fn refresh(&self, token: &str) -> Result<Value, &'static str> {
        let state = &mut *self.state();
        if let Some((who, successor)) = state.used.get(token).cloned() {
            // a client that has not used the answer may not have received it
            let is_unused = state.living.contains_key(&successor);
            if !(state.lenient && is_unused) {
                state.reuses += 1;
                state.revoked.insert(who);
                return Err("invalid_grant");
            }
            state.living.remove(&successor);
            state.living.insert(token.to_owned(), who);
        }
        let Some(who) = state.living.get(token).cloned().filter(|who| !state.revoked.contains(who)) else {
            return Err("invalid_grant");
        };
        state.living.remove(token);
        *state.refreshes.entry(who.clone()).or_default() += 1;
        let answer = state.issue(&who);
        let successor = answer["refresh_token"].as_str().unwrap().to_owned();
        state.used.insert(token.to_owned(), (who, successor));
        Ok(answer)
    }

    fn redeem(&self, form: &HashMap<String, String>) -> Result<Value, &'static str> {
        let state = &mut *self.state();
        let (challenge, redirect) = state.codes.remove(&form["code"]).ok_or("invalid_grant")?;
        let digest = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
        if redirect != form["redirect_uri"] || challenge != base64(digest.as_ref()) {
            return Err("invalid_grant");
        }
        Ok(state.issue("person"))
    }
}

impl State {
    fn issue(&mut self, who: &str) -> Value {
        self.issued += 1;
        let refresh = format!("rt-canary-{who}-{}", self.issued);
        self.living.insert(refresh.clone(), who.to_owned());
        // {"sub":"…","email":"…@example.org"}, the claims that are read
        let claims = base64(json!({ "sub": who, "email": format!("{who}@example.org") }).to_string().as_bytes());
        let mut answer = json!({ "access_token": format!("at-canary-{who}-{}", self.issued), "refresh_token": refresh,
            "token_type": "Bearer", "expires_in": self.life, "id_token": format!("x.{claims}.y") });
        if let Some(Value::Object(fields)) = self.fields.clone() {
            answer.as_object_mut().unwrap().extend(fields);
        }
        answer
    }
}

fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Method, target, `User-Agent` and body.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, String, String)> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut length = 0;
    let mut agent = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        match header.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some((name, value)) if name.eq_ignore_ascii_case("user-agent") => value.trim().clone_into(&mut agent),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, target, agent, String::from_utf8(body).ok()?))
}

pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let letter = |six: &[u8]| {
        let value = (0..6).fold(0, |value, place| value << 1 | six.get(place).copied().unwrap_or(0));
        char::from(ALPHABET[value as usize])
    };
    bits.chunks(6).map(letter).collect()
}
