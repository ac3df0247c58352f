"""The server of a Space, and a client that can send it any request."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

_STARTUP_TIMEOUT = 120.0  # seconds
_REQUEST_TIMEOUT = 60.0
_LEAKS = re.compile(r"Traceback|File \"/|site-packages|/tmp/|root:x:0")
_NO_BODY = "HEAD"
_MIN_LENGTH = 8  # characters of a useful message


@dataclass(frozen=True)
class Reply:
    """A reply of the server.

    status: HTTP status; 599 if there was no reply.
    text: Body.
    seconds: Time until the reply was complete.
    event: ``complete`` or ``error`` for an accepted call, else empty.
    method: HTTP method of the request.
    uploads: Folder of uploads, whose path clients may see.
    """

    status: int
    text: str
    seconds: float
    event: str = ""
    method: str = "GET"
    uploads: str = ""

    @property
    def content(self) -> Any:
        """The parsed JSON, or None if the text is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def busy(self) -> bool:
        """Whether the server refused the request because it is busy."""
        return self.status == 503

    def problem(self) -> str | None:
        """Return what is wrong with the reply as an answer to an untrusted client, or None."""
        if self.status >= 500 and not self.busy:
            return f"HTTP {self.status}: {self.text[:200]!r}"
        if leak := _LEAKS.search(self.text.replace(self.uploads, "") if self.uploads else self.text):
            return f"leaks {leak.group()!r}: {self.text[:300]!r}"
        if self.status >= 400:
            has_message = len(self.text) >= _MIN_LENGTH or self.method == _NO_BODY
            return None if has_message else f"HTTP {self.status} without a message"
        if self.event == "error":
            content = self.content
            message = content.get("error") if isinstance(content, dict) else content
            if not isinstance(message, str) or len(message) < _MIN_LENGTH:
                return f"an error without a message: {self.text[:200]!r}"
        return None


class Server:
    """Context manager that runs the server of an exported Space in its own process.

    Args:
        folder: Folder of the Space.
        output: Folder for uploads and the server's log.
        **variables: Further environment variables.
    """

    def __init__(self, folder: Path, output: Path, **variables: str) -> None:
        self._folder = folder
        self.log = output / "server.log"
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.uploads = output / "uploads"
        variables |= {"GRADIO_SERVER_PORT": str(self.port), "GRADIO_TEMP_DIR": str(self.uploads)}
        self._environment = {**os.environ, "PYTHONPATH": "", **variables}

    def __enter__(self) -> "Server":
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _STARTUP_TIMEOUT
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.address}/config", timeout=5).raise_for_status()
                return self
            except httpx.HTTPError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.3)
        self.__exit__()
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def memory(self) -> int:
        """Return the resident memory in bytes of the process and its descendants."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(OSError, IndexError):  # it may have exited
                total += 1024 * int(Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()[0])
        return total

    def _processes(self) -> list[str]:
        processes = [str(self._process.pid)]
        for process in processes:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{process}/task").iterdir():
                    processes += (task / "children").read_text().split()
        return processes

    def handles(self) -> int:
        """Return the number of files and connections that the process has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))


class Client:
    """Asynchronous context manager that sends requests."""

    def __init__(self, server: Server) -> None:
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(
            base_url=server.address,
            timeout=_REQUEST_TIMEOUT,
            limits=limits,
            trust_env=False,
            verify=False,  # there is no TLS, whose setup takes 20 ms
        )
        self._uploads = str(server.uploads)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        """Send a request with its path unnormalized, with all dots and slashes."""
        start = time.perf_counter()
        target = "".join(letter if " " < letter < "\x7f" else quote(letter) for letter in path).encode()
        try:
            response = await self._http.request(method, "/", extensions={"target": target}, **options)
        except httpx.HTTPError as error:
            return Reply(599, f"{type(error).__name__}: {error}", time.perf_counter() - start, method=method)
        seconds = time.perf_counter() - start
        return Reply(response.status_code, response.text, seconds, method=method, uploads=self._uploads)

    async def upload(self, name: str, content: bytes) -> Reply:
        """Upload a file; the reply's ``content`` is a list of its path on the server."""
        boundary = "----------------8f1c0d"
        escaped = name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{escaped}"\r\n'
        body = (head + "Content-Type: image/png\r\n\r\n").encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return await self.send("POST", "/gradio_api/upload", content=body, headers=headers)

    async def call(self, name: str, body: str) -> Reply:
        """Call the API and wait for its final event."""
        headers = {"Content-Type": "application/json"}
        joined = await self.send("POST", f"/gradio_api/call/{name}", content=body.encode(), headers=headers)
        event = joined.content.get("event_id") if isinstance(joined.content, dict) else None
        if joined.status != 200 or event is None:
            return joined
        streamed = await self.send("GET", f"/gradio_api/call/{name}/{event}")
        events = re.findall(r"event: (complete|error)\ndata: (.*)", streamed.text)
        seconds = joined.seconds + streamed.seconds
        if not events:
            return Reply(599, f"no answer: HTTP {streamed.status}, {streamed.text[:200]!r}", seconds)
        return Reply(streamed.status, events[-1][1], seconds, events[-1][0], uploads=self._uploads)

    async def classify(self, *contents: bytes, classes: int = 3) -> Reply:
        """Upload images and classify them, as an API client does."""
        start = time.perf_counter()
        uploaded = await asyncio.gather(*(self.upload("image.png", content) for content in contents))
        for reply in uploaded:
            if reply.status != 200 or not reply.content:
                return reply
        files = [{"path": reply.content[0], "meta": {"_type": "gradio.FileData"}} for reply in uploaded]
        answer = await self.call("classify", json.dumps({"data": [files, classes]}))
        return replace(answer, seconds=time.perf_counter() - start)
