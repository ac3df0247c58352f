"""What of gradio's server a visitor may reach: what the page needs, and nothing else.

gradio serves more than a page asks for: it fetches files from addresses that a visitor names, hands requests on to
other apps, edits its own source where that is switched on, records runs. None of it is for this page.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_JSON = 1_000_000  # bytes; the page's own requests have some thousand, since files are uploaded by themselves
_UNTOLD = re.compile(rb'"error":\s*null')
_FAILED = re.compile(rb'event: error|"success":\s*false')
_NOT_UNDERSTOOD = b'"error": "The page cannot make anything of this request; /gradio_api/info tells what it takes."'
_ADDRESS = re.compile(r"\s*(https?|ftps?|file|data|gopher|ws|wss):", re.IGNORECASE)
_SERVED = re.compile(
    r"""/ | /config/? | /theme\.css | /favicon\.ico | /manifest\.json | /robots\.txt | /pwa_icon(/\d+)?
    | /(assets|static|svelte)/.*
    | /gradio_api/(app_id|cancel|config|heartbeat/\w+|info|login_check|openapi\.json|queue/(join|data|status)|reset
        |startup-events|theme\.css|token|upload|upload_progress|user)/?
    | /gradio_api/call/(v2/)?\w+(/\w+)?/?
    | /gradio_api/custom_component/.*
    | /gradio_api/file=(?!\s*\w+:).*
    | /gradio_api/mcp(/.*)?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


class Gate:
    """Middleware that answers 404 to what the page does not need, refuses values that name another server, and lets no
    error go without a message.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on."""
        if scope["type"] != "http":
            return await (self._app(scope, receive, send) if scope["type"] == "lifespan" else _close(send))
        path = scope["path"]
        if not _SERVED.fullmatch(path):
            return await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
        if scope["method"] == "POST" and not path.rstrip("/").endswith("/upload"):
            body = await _read(receive)
            if problem := _problem(body):
                return await PlainTextResponse(problem, 400)(scope, receive, send)
            receive = _again(body, receive)
        return await self._app(scope, receive, _telling(send))


def _telling(send: Send) -> Send:
    """Adds a message to gradio's word of an error that has none, as of arguments that are of another kind."""

    async def send_told(message: Message) -> None:
        body = message.get("body", b"")
        if _UNTOLD.search(body) and _FAILED.search(body):
            message = {**message, "body": _UNTOLD.sub(_NOT_UNDERSTOOD, body)}
        await send(message)

    return send_told


def _problem(body: bytes | None) -> str | None:
    if body is None:
        return f"A request may have {_MOST_JSON:,} bytes; files are uploaded by themselves."
    if not body:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "The request is no JSON."
    if any(_ADDRESS.match(path) for path in _paths(content)):
        return "Upload the file; this page fetches none from elsewhere."
    return None


def _paths(content: Any) -> Iterator[str]:
    """All that is called a path, at any depth."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("path"), str):
                yield part["path"]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


async def _read(receive: Receive) -> bytes | None:
    """The request's body; None if it is too long."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_JSON:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()  # that the visitor has gone
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _close(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1000})
