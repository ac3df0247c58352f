"""What of gradio's server a visitor may reach: what the page needs, and nothing else.

gradio serves more than a page asks for: it fetches files from addresses that a visitor names, hands requests on to
other apps, edits its own source where that is switched on, records runs. None of it is for this page. What a visitor
sends that nobody can make anything of ends in one line, here and in the server's log.
"""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger(__name__)
_MOST_JSON = 1_000_000  # bytes; the page's own requests have some thousand, since files are uploaded by themselves
_MOST_UPLOADED = 102_000_000  # bytes of a request: ten files of ten megabytes
_DEEPEST = 50  # lists and mappings within each other
_UPLOAD = "/gradio_api/upload"
NOT_UNDERSTOOD = "The page cannot make anything of this request; /gradio_api/info tells what it takes."
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)  # a drive of Windows has one letter
_UNTOLD = re.compile(rb'"error":\s*null')
_FAILED = re.compile(rb'event: error|"success":\s*false')
_TOLD = b'"error": "Something went wrong in answering this; please try again."'
_SERVED = re.compile(
    r"""/ | /config/? | /theme\.css | /favicon\.ico | /manifest\.json | /robots\.txt | /pwa_icon(/\d+)?
    | /(assets|static|svelte)/.*
    | /gradio_api/(app_id|cancel|config|heartbeat/[\w-]+|info|login_check|openapi\.json|queue/(join|data|status)|reset
        |startup-events|theme\.css|token|upload|upload_progress|user)/?
    | /gradio_api/call/(v2/)?\w+(/\w+)?/?
    | /gradio_api/file=(?!\s*(\w{2,}:|//)).*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_TOOLS = re.compile(r"/gradio_api/mcp(/.*)?", re.DOTALL)


class Page(gr.Blocks):
    """gradio's page, which says of what a visitor sends wrongly that it is wrong, and prints nothing."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """What the functions take, of what the visitor sent.

        Raises:
            gr.Error: if that cannot be.
        """
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # it is the visitor's, who is told
            raise
        except Exception as error:
            _LOG.warning("refused: %s", _short(error))
            raise gr.Error(NOT_UNDERSTOOD, print_exception=False) from error


class Selected(gr.SelectData):
    """What the visitor clicked."""

    def __init__(self, target: Any, data: Any) -> None:
        if not isinstance(data, dict) or not {"index", "value"} <= data.keys():
            raise gr.Error(NOT_UNDERSTOOD, print_exception=False)
        super().__init__(target, data)


class Gate:
    """Middleware that answers 404 to what the page does not need, refuses what is too large or names another server,
    and lets no error go without a message.

    Args:
        app: What it stands before.
        tools: Whether to let through what language models ask for (MCP).
    """

    def __init__(self, app: ASGIApp, tools: bool = False) -> None:
        self._app, self._tools = app, tools

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on."""
        if scope["type"] != "http":
            return await (self._app(scope, receive, send) if scope["type"] == "lifespan" else _close(send))
        if not (_SERVED.fullmatch(scope["path"]) or (self._tools and _TOOLS.fullmatch(scope["path"]))):
            return await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
        if scope["method"] == "POST":
            if scope["path"].rstrip("/") == _UPLOAD:
                problem = _upload_problem(dict(scope["headers"]))
            else:
                body = await _read(receive)
                problem = _problem(body)
                receive = _again(body or b"", receive)
            if problem:
                return await PlainTextResponse(problem, 400)(scope, receive, send)
        await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the page answer; an error in that is told in a line."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, _telling(noting))
        except Exception as error:
            _LOG.warning("%s %s: %s", scope["method"], scope["path"], _short(error))
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await PlainTextResponse(NOT_UNDERSTOOD, 400)(scope, receive, send)


def _telling(send: Send) -> Send:
    """Adds a message to gradio's word of an error that has none."""
    streams = False

    async def send_told(message: Message) -> None:
        nonlocal streams
        if message["type"] == "http.response.start":
            streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
        body = message.get("body", b"")
        if streams and _UNTOLD.search(body) and _FAILED.search(body):
            message = {**message, "body": _UNTOLD.sub(_TOLD, body)}
        await send(message)

    return send_told


def _upload_problem(headers: dict[bytes, bytes]) -> str | None:
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or int(length) > _MOST_UPLOADED:
        return f"An upload says how long it is, at most {_MOST_UPLOADED:,} bytes."
    return None


def _problem(body: bytes | None) -> str | None:
    if body is None:
        return f"A request may have {_MOST_JSON:,} bytes; files are uploaded by themselves."
    if not body:
        return None
    try:
        content = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return "The request is no JSON."
    if _deep(content):
        return "The request has too many lists within each other."
    if any(_ADDRESS.match(path) for path in _paths(content)):
        return "Upload the file; this page fetches none from elsewhere."
    return None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) == float("inf"):
        raise ValueError(f"{text} is too large")
    return number


def _deep(content: Any) -> bool:
    layer = [content]
    for _ in range(_DEEPEST):
        layer = [part for whole in layer for part in _parts(whole)]
        if not layer:
            return False
    return True


def _parts(whole: Any) -> Iterator[Any]:
    if isinstance(whole, dict):
        yield from whole.values()
    elif isinstance(whole, list):
        yield from whole


def _paths(content: Any) -> Iterator[str]:
    """All that is called a path, at any depth."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and isinstance(part.get("path"), str):
            yield part["path"]
        waiting += _parts(part)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}"


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
