"""Protect gradio's server: expose only what the page needs, and answer malformed requests in one line.

gradio serves more than a page needs: it fetches files from any address, forwards requests to other apps, edits its own
source if that is enabled, and records runs. A malformed request gets a one-line response and a one-line log entry.
"""

import json
import logging
import math
import re
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger(__name__)
_MAX_JSON = 1_000_000  # bytes; the page's own requests have a few thousand, since files are uploaded separately
_MAX_UPLOAD = 302_000_000  # bytes of a request: ten files of thirty megabytes
_MAX_DEPTH = 50  # of nested lists and objects
_MAX_VALUES = 2_000  # in total; gradio's validation takes seconds for a list of 100,000
_UPLOAD = "/gradio_api/upload"
INVALID_REQUEST = "Invalid request; see /gradio_api/info for the parameters of each endpoint."
_URL = re.compile(r"\s*([a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)  # a Windows drive has one letter
_EMPTY_ERROR = re.compile(rb'"error":\s*null')
_FAILED = re.compile(rb'event: error|"success":\s*false')
_ERROR = b'"error": "Something went wrong; please try again."'
_ALLOWED = re.compile(
    r"""/ | /config/? | /theme\.css | /favicon\.ico | /manifest\.json | /robots\.txt | /pwa_icon(/\d+)?
    | /(assets|static|svelte)/.*
    | /gradio_api/(app_id|cancel|config|heartbeat/[\w-]+|info|login_check|openapi\.json|queue/(join|data|status)|reset
        |startup-events|theme\.css|token|upload|upload_progress|user)/?
    | /gradio_api/call/(v2/)?\w+(/\w+)?/?
    | /gradio_api/file=(?!\s*(\w{2,}:|//)).*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ALLOWED_MCP = re.compile(r"/gradio_api/mcp(/.*)?", re.DOTALL)


class Page(gr.Blocks):
    """``gradio.Blocks`` that answers malformed input with a message instead of a traceback."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Convert a visitor's input to the arguments of an event handler.

        Raises:
            gr.Error: if the input is malformed.
        """
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:  # gradio's components raise exceptions of any type
            _LOG.warning("refused: %s", _one_line(error))
            raise gr.Error(INVALID_REQUEST, print_exception=False) from error


class Selected(gr.SelectData):
    """``gradio.SelectData`` that rejects malformed data."""

    def __init__(self, target: Any, data: Any) -> None:
        if not isinstance(data, dict) or not {"index", "value"} <= data.keys():
            raise gr.Error(INVALID_REQUEST, print_exception=False)
        super().__init__(target, data)


class AllowlistMiddleware:
    """ASGI middleware that exposes only the routes the app needs.

    It also rejects requests that are too large or refer to other servers, and gives every error a message.

    Args:
        app: The wrapped app.
        mcp: Expose the MCP server for language models.
    """

    def __init__(self, app: ASGIApp, mcp: bool = False) -> None:
        self._app, self._mcp = app, mcp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1000})
        path = scope["path"]
        root = scope.get("root_path", "").rstrip("/")
        if root and f"{path}/".startswith(f"{root}/"):  # a proxy that keeps the prefix
            path = path.removeprefix(root) or "/"
        if not (_ALLOWED.fullmatch(path) or (self._mcp and _ALLOWED_MCP.fullmatch(path))):
            return await PlainTextResponse("Not found.", 404)(scope, receive, send)
        if scope["method"] == "POST":
            if path.rstrip("/") == _UPLOAD:
                length = dict(scope["headers"]).get(b"content-length", b"")
                is_short = length.isdigit() and int(length) <= _MAX_UPLOAD
                problem = None if is_short else f"An upload needs a Content-Length of at most {_MAX_UPLOAD:,} bytes."
            else:
                body = await _read(receive)
                problem = _json_problem(body)
                receive = _replay(body or b"", receive)
            if problem:
                return await PlainTextResponse(problem, 400)(scope, receive, send)
        await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and turn any exception into one line."""
        started = streams = False

        async def send_with_messages(message: Message) -> None:
            nonlocal started, streams
            if message["type"] == "http.response.start":
                started = True
                streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
            body = message.get("body", b"")
            if streams and _EMPTY_ERROR.search(body) and _FAILED.search(body):
                message = {**message, "body": _EMPTY_ERROR.sub(_ERROR, body)}
            await send(message)

        try:
            await self._app(scope, receive, send_with_messages)
        except Exception as error:  # gradio's routes raise exceptions of any type
            _LOG.warning("%s %r: %s", scope["method"], scope["path"], _one_line(error))
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await PlainTextResponse(INVALID_REQUEST, 400)(scope, receive, send)


def _json_problem(body: bytes | None) -> str | None:
    if body is None:
        return f"A request may have at most {_MAX_JSON:,} bytes; upload files separately."
    if not body:
        return None
    try:
        content = json.loads(body, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return "The request is not valid JSON."
    stack: list[tuple[Any, int]] = [(content, 0)]
    values = 0
    while stack:
        value, depth = stack.pop()
        if depth >= _MAX_DEPTH:
            return f"The request has more than {_MAX_DEPTH} levels of nesting."
        if isinstance(value, dict):
            if isinstance(value.get("path"), str) and _URL.match(value["path"]):
                return "Upload the file; this page does not fetch files from other servers."
            value = list(value.values())
        if isinstance(value, list):
            values += len(value)
            if values > _MAX_VALUES:
                return f"The request has more than {_MAX_VALUES:,} values."
            stack += [(item, depth + 1) for item in value]
    return None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error)[:1000].split())[:200]
    return f"{type(error).__name__} {text!r}"  # control characters would act on the terminal that shows the log


async def _read(receive: Receive) -> bytes | None:
    """Return the request's body; None if it is too long."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MAX_JSON:
            return None
        if not message.get("more_body"):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body again, then whatever follows, such as a disconnect."""
    messages: list[Message] = [{"type": "http.request", "body": body}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
