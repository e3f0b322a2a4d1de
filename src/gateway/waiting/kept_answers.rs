//! The providers' own refusals of credentials, models and requests, kept for later requests that no account can serve
//! for the same reason: they get the same answer, without a request to the provider.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use rustc_hash::FxHashMap;

use crate::gateway::response::ClientBody;

/// Most answers kept, of different providers and models.
const MOST_KEPT: usize = 64;
/// A longer body is not kept, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// What is kept of an answer's headers: what its body needs, and how to authenticate.
const KEPT_HEADERS: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, WWW_AUTHENTICATE];

#[derive(Clone, Debug)]
struct KeptAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// The last answer, by provider and model.
#[derive(Debug, Default)]
pub(in crate::gateway) struct KeptAnswers(Mutex<FxHashMap<(String, String), KeptAnswer>>);

impl KeptAnswers {
    /// Keeps a refusal whose body is complete.
    pub(in crate::gateway) fn keep(
        &self,
        provider: &str,
        model: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[Bytes],
    ) {
        let length: usize = body.iter().map(Bytes::len).sum();
        if length > MAX_BODY {
            return;
        }
        let kept = KEPT_HEADERS.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
        let answer = KeptAnswer { status, headers: kept, body: body.concat().into() };
        let mut answers = self.lock();
        let key = (provider.to_owned(), model.to_owned());
        if answers.len() >= MOST_KEPT && !answers.contains_key(&key) {
            // which of them is lost does not matter: the gateway has an answer of its own
            let first = answers.keys().next().cloned();
            first.and_then(|first| answers.remove(&first));
        }
        answers.insert(key, answer);
    }

    /// The last refusal of requests for this model.
    pub(in crate::gateway) fn response(&self, provider: &str, model: &str) -> Option<Response<ClientBody>> {
        let answer = self.lock().get(&(provider.to_owned(), model.to_owned())).cloned()?;
        let mut response = Response::new(ClientBody::Complete(Some(answer.body)));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Some(response)
    }

    /// A request for this model was served: what was refused before says nothing of the next refusal.
    pub(in crate::gateway) fn forget(&self, provider: &str, model: &str) {
        let mut answers = self.lock();
        if !answers.is_empty() {
            answers.remove(&(provider.to_owned(), model.to_owned()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<(String, String), KeptAnswer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_by_provider_and_model_within_bounds() {
        let answers = KeptAnswers::default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        headers.insert("retry-after", "5".parse().unwrap());
        let body = [Bytes::from_static(b"{\"no\":"), Bytes::from_static(b"1}")];
        answers.keep("openai", "m", StatusCode::FORBIDDEN, &headers, &body);
        let response = answers.response("openai", "m").unwrap();
        assert_eq!((response.status(), response.headers().len()), (StatusCode::FORBIDDEN, 1));
        assert!(answers.response("openai", "n").is_none() && answers.response("google", "m").is_none());
        answers.keep("openai", "long", StatusCode::FORBIDDEN, &headers, &[Bytes::from(vec![0; MAX_BODY + 1])]);
        assert!(answers.response("openai", "long").is_none());
        answers.forget("openai", "m");
        assert!(answers.response("openai", "m").is_none());
        for number in 0..2 * MOST_KEPT {
            answers.keep("openai", &number.to_string(), StatusCode::FORBIDDEN, &headers, &body);
        }
        assert_eq!(answers.lock().len(), MOST_KEPT);
    }
}
