"""Sends a request to Anthropic's Messages API, or to the address in ANTHROPIC_BASE_URL."""

import json
import os
import urllib.error
import urllib.request
from email.message import Message

URL = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com") + "/v1/messages"
HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01"}


def send(credential: dict[str, str], text: str) -> tuple[int, Message, bytes]:
    """The status, headers and body of the answer, also of a refusal."""
    message = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(URL, json.dumps(message).encode(), HEADERS | credential)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()
