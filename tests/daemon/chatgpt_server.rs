//! Sign in with ChatGPT for open-source programs, and OpenAI's API, played here as they are described in public:
//! <https://developers.openai.com/siwc/token-sharing-open-source>. Each registration issues a client for one user in one
//! workspace; refresh tokens rotate, and one that is used twice, by another client or too early ends its login.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const RESOURCE: &str = "https://api.openai.com/v1";
const SCOPES: [&str; 6] =
    ["openid", "profile", "email", "offline_access", "resource.invoke", "chatgpt.tokens.use.direct"];

/// A user of ChatGPT in a workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub sub: &'static str,
    pub workspace: &'static str,
    pub email: &'static str,
}

struct Code {
    client: String,
    redirect: String,
    challenge: String,
    nonce: String,
}

struct Token {
    client: String,
    earliest: u64,
    is_used: bool,
}

#[derive(Default)]
struct State {
    /// The user at the browser.
    user: Option<User>,
    refuses: bool,
    without_plan: bool,
    /// Closes the connection after the next exchange of a code.
    loses_answer: bool,
    hosts: Vec<String>,
    hints: Vec<String>,
    clients: HashMap<String, User>,
    codes: HashMap<String, Code>,
    refresh: HashMap<String, Token>,
    /// Access tokens, their clients and ends.
    access: HashMap<String, (String, u64)>,
    revoked: Vec<String>,
    refreshes: HashMap<String, usize>,
    served: HashMap<String, usize>,
    errors: Vec<String>,
    issued: usize,
    life: u64,
    /// How long before the end of an access token it may be refreshed, in ms.
    window: u64,
}

#[derive(Clone)]
pub struct ChatgptServer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl ChatgptServer {
    /// Its access tokens live this long.
    pub fn start(life: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let life = u64::try_from(life.as_millis()).unwrap();
        let state = State { life, window: life / 3, ..State::default() };
        let server = Self { url, state: Arc::new(Mutex::new(state)) };
        let theirs = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = theirs.clone();
                std::thread::spawn(move || server.serve(&stream));
            }
        });
        server
    }

    pub fn config(&self) -> String {
        let url = &self.url;
        format!(
            "[providers.openai]\nbase_url = \"{url}\"\n[providers.openai.direct]\nauthorize_url = \"{url}/authorize\"\n\
             token_url = \"{url}/token\"\n"
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn user(&self, user: &User) {
        self.state().user = Some(user.clone());
    }

    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    pub fn grant_no_plan(&self) {
        self.state().without_plan = true;
    }

    pub fn lose_next_answer(&self) {
        self.state().loses_answer = true;
    }

    /// The clients that were registered for a user.
    pub fn clients_of(&self, user: &User) -> Vec<String> {
        let state = self.state();
        let mut ids: Vec<String> =
            state.clients.iter().filter(|(_, of)| *of == user).map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }

    pub fn refreshes(&self, client: &str) -> usize {
        self.state().refreshes.get(client).copied().unwrap_or_default()
    }

    pub fn served(&self, client: &str) -> usize {
        self.state().served.get(client).copied().unwrap_or_default()
    }

    pub fn hosts(&self) -> Vec<String> {
        self.state().hosts.clone()
    }

    pub fn hints(&self) -> Vec<String> {
        self.state().hints.clone()
    }

    /// What was requested against the description.
    pub fn errors(&self) -> Vec<String> {
        self.state().errors.clone()
    }

    /// Answers to logins of this client name another user.
    pub fn impersonate(&self, client: &str, user: &User) {
        self.state().clients.insert(client.to_owned(), user.clone());
    }

    /// The registration is gone.
    pub fn forget(&self, client: &str) {
        self.state().clients.remove(client);
    }

    /// The user removes the program from the account.
    pub fn revoke(&self, client: &str) {
        self.state().revoked.push(client.to_owned());
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let target = line.split(' ').nth(1)?.to_owned();
            let is_post = line.starts_with("POST");
            let mut headers = HashMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let path = target.split('?').next()?;
            let (status, extra, answer) = match (is_post, path) {
                (false, "/authorize") => self.authorize(&pairs(target.split_once('?')?.1)),
                (true, "/token") => {
                    let (status, answer) = self.token(&pairs(str::from_utf8(&body).ok()?))?;
                    (status, String::new(), answer)
                }
                _ => self.api(path, &headers),
            };
            let answer = answer.to_string();
            let length = answer.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}");
            let mut stream = stream;
            stream.write_all(format!("{head}content-length: {length}\r\n\r\n{answer}").as_bytes()).ok()?;
        }
    }

    fn authorize(&self, query: &HashMap<String, String>) -> (u16, String, Value) {
        let state = &mut *self.state();
        let field = |name: &str| query.get(name).cloned().unwrap_or_default();
        let user = state.user.clone().unwrap();
        let mut wrong = Vec::new();
        let mut check = |what: &str, is_so: bool| wrong.extend((!is_so).then(|| what.to_owned()));
        let mut scopes: Vec<String> = field("scope").split(' ').map(str::to_owned).collect();
        scopes.sort();
        let mut expected = SCOPES;
        expected.sort_unstable();
        let redirect = field("redirect_uri");
        check("response_type", field("response_type") == "code");
        check("PKCE", field("code_challenge_method") == "S256" && field("code_challenge").len() == 43);
        check("state and nonce", field("state").len() > 20 && field("nonce").len() > 20);
        check("scope", scopes == expected);
        check("resource", field("resource") == RESOURCE);
        check("redirect", redirect.starts_with("http://127.0.0.1:") && redirect.ends_with("/auth/callback"));
        check("host", field("ext_agent_host_id").starts_with("urn:uuid:"));
        let client = match field("client_id") {
            id if id == "dynamic_agent_client" => {
                check("agent_name_hint of a registration", field("agent_name_hint") == "lessor");
                format!("oaiapp_{}", state.clients.len() + 1)
            }
            id => {
                check("agent_name_hint of a known client", field("agent_name_hint").is_empty());
                check("known client", state.clients.contains_key(&id));
                id
            }
        };
        if !wrong.is_empty() {
            state.errors.push(format!("authorize: {}", wrong.join(", ")));
            return (400, String::new(), json!({ "error": "invalid_request" }));
        }
        state.hosts.push(field("ext_agent_host_id"));
        state.hints.push(field("login_hint"));
        let back = |answer: &str| format!("location: {redirect}?{answer}&state={}\r\n", field("state"));
        if state.refuses {
            return (302, back("error=access_denied"), json!({}));
        }
        state.clients.entry(client.clone()).or_insert(user);
        state.issued += 1;
        let code = format!("code-canary-{}", state.issued);
        let known = Code {
            client: client.clone(),
            redirect: redirect.clone(),
            challenge: field("code_challenge"),
            nonce: field("nonce"),
        };
        state.codes.insert(code.clone(), known);
        (302, back(&format!("code={code}&client_id={client}&scope=openid")), json!({}))
    }

    /// `None` closes the connection.
    fn token(&self, form: &HashMap<String, String>) -> Option<(u16, Value)> {
        let state = &mut *self.state();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let client = field("client_id");
        let error = |state: &mut State, status: u16, code: &str, why: &str| {
            state.errors.push(format!("token: {why}"));
            Some((status, json!({ "error": code })))
        };
        if field("resource") != RESOURCE {
            return error(state, 400, "invalid_target", "resource");
        }
        if !state.clients.contains_key(&client) {
            return error(state, 401, "invalid_client", "unknown client");
        }
        match field("grant_type").as_str() {
            "authorization_code" => {
                let Some(code) = state.codes.remove(&field("code")) else {
                    return error(state, 400, "invalid_grant", "unknown code");
                };
                let verifier = field("code_verifier");
                let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
                let fits = code.client == client
                    && code.redirect == field("redirect_uri")
                    && code.challenge == BASE64_URL_SAFE_NO_PAD.encode(digest);
                if !fits {
                    return error(state, 400, "invalid_grant", "client, redirect or verifier of the code");
                }
                let answer = state.issue(&client, Some(&code.nonce));
                if std::mem::take(&mut state.loses_answer) { None } else { Some((200, answer)) }
            }
            "refresh_token" => {
                if form.contains_key("scope") {
                    return error(state, 400, "invalid_scope", "a refresh with scopes");
                }
                let is_revoked = state.revoked.contains(&client);
                let known = state.refresh.get_mut(&field("refresh_token")).filter(|known| known.client == client);
                let why = match known {
                    _ if is_revoked => "revoked",
                    None => "unknown refresh token",
                    Some(known) if known.is_used => "reused",
                    Some(known) if known.earliest > now() => "too early",
                    Some(known) => {
                        known.is_used = true;
                        *state.refreshes.entry(client.clone()).or_default() += 1;
                        return Some((200, state.issue(&client, None)));
                    }
                };
                if why != "revoked" {
                    state.errors.push(format!("token: {why}"));
                    state.revoked.push(client);
                }
                let code = if why == "reused" { "refresh_token_reused" } else { "invalid_grant" };
                Some((400, json!({ "error": { "code": code, "message": why } })))
            }
            _ => error(state, 400, "unsupported_grant_type", "grant_type"),
        }
    }

    fn api(&self, path: &str, headers: &HashMap<String, String>) -> (u16, String, Value) {
        let state = &mut *self.state();
        let bearer = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let known = state.access.get(bearer).filter(|(client, end)| *end > now() && !state.revoked.contains(client));
        let Some((client, _)) = known.cloned() else {
            return (401, String::new(), json!({ "detail": { "error_code": "invalid_token" } }));
        };
        if headers.contains_key("chatgpt-account-id") {
            state.errors.push("api: chatgpt-account-id".to_owned());
        }
        match path {
            "/v1/models" => (200, String::new(), json!({ "models": [] })),
            "/v1/responses" => {
                *state.served.entry(client.clone()).or_default() += 1;
                (200, String::new(), json!({ "id": "resp_1", "status": "completed", "client": client }))
            }
            _ => {
                state.errors.push(format!("api: {path}"));
                (403, String::new(), json!({ "detail": { "code": "subscription_sharing_route_not_supported" } }))
            }
        }
    }
}

impl State {
    /// New tokens of a client; with an identity token for a login.
    fn issue(&mut self, client: &str, nonce: Option<&str>) -> Value {
        self.issued += 1;
        let (access, refresh) = (format!("at-canary-{}", self.issued), format!("rt-canary-{}", self.issued));
        let end = now() + self.life;
        let earliest = end - self.window;
        self.access.insert(access.clone(), (client.to_owned(), end));
        self.refresh.insert(refresh.clone(), Token { client: client.to_owned(), earliest, is_used: false });
        let scope = if self.without_plan { "openid offline_access".to_owned() } else { SCOPES.join(" ") };
        let life = Duration::from_millis(self.life).as_secs_f64();
        let mut answer = json!({ "access_token": access, "refresh_token": refresh, "token_type": "Bearer",
            "expires_in": life, "scope": scope, "earliest_refresh_at": earliest });
        if let Some(nonce) = nonce {
            let user = &self.clients[client];
            let claims = json!({ "iss": "https://auth.openai.com", "aud": [client], "sub": user.sub, "nonce": nonce,
                "email": user.email, "exp": end / 1000 + 60,
                "https://api.openai.com/auth": { "chatgpt_account_id": user.workspace } });
            answer["id_token"] = json!(format!("e30.{}.FAKE", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())));
        }
        answer
    }
}

fn pairs(text: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
