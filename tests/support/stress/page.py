"""A Space's server, and a client of it that may send anything."""

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

_OPENS = 120.0  # seconds
_ANSWERS = 60.0
_LEAKS = re.compile(r"Traceback|File \"/|site-packages|/tmp/|root:x:0")
_NO_BODY = "HEAD"
_SHORTEST = 8  # characters of a useful message


@dataclass(frozen=True)
class Reply:
    """What the server said.

    status: Of HTTP.
    text: Of the body.
    seconds: That it took.
    event: ``complete`` or ``error`` of a call that was accepted; else empty.
    method: Of the request.
    uploads: The folder of uploads, which a visitor sees.
    """

    status: int
    text: str
    seconds: float
    event: str = ""
    method: str = "GET"
    uploads: str = ""

    @property
    def content(self) -> Any:
        """The text as JSON; None if it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def busy(self) -> bool:
        """Whether the server politely had no time."""
        return self.status == 503

    def problem(self) -> str | None:
        """What is wrong with the reply as an answer to a stranger; None if nothing is."""
        if self.status >= 500 and not self.busy:
            return f"HTTP {self.status}: {self.text[:200]!r}"
        if leak := _LEAKS.search(self.text.replace(self.uploads, "") if self.uploads else self.text):
            return f"leaks {leak.group()!r}: {self.text[:300]!r}"
        if self.status >= 400:
            explained = len(self.text) >= _SHORTEST or self.method == _NO_BODY
            return None if explained else f"HTTP {self.status} without a message"
        if self.event == "error":
            content = self.content
            message = content.get("error") if isinstance(content, dict) else content
            if not isinstance(message, str) or len(message) < _SHORTEST:
                return f"an error without a message: {self.text[:200]!r}"
        return None


class Server:
    """The server of an exported Space, in a process of its own; a context manager.

    Args:
        folder: Of the Space.
        place: Where uploads and the server's output go.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self._folder = folder
        self.log = place / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.uploads = place / "uploads"
        own = {"GRADIO_SERVER_PORT": str(self.port), "GRADIO_TEMP_DIR": str(self.uploads)}
        self._environment = {**os.environ, "PYTHONPATH": "", **own}

    def __enter__(self) -> "Server":
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + _OPENS
        while time.monotonic() < end:
            try:
                httpx.get(f"{self.address}/config", timeout=5).raise_for_status()
                return self
            except httpx.HTTPError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.3)
        self.__exit__()
        raise RuntimeError(f"the page did not open: {self.log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def memory(self) -> int:
        """Bytes that the process and those that it started have in memory now."""
        found = 0
        for process in self._processes():
            with contextlib.suppress(OSError, IndexError):  # it may have ended since
                found += 1024 * int(Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()[0])
        return found

    def _processes(self) -> list[str]:
        found = [str(self._process.pid)]
        for process in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{process}/task").iterdir():
                    found += (task / "children").read_text().split()
        return found

    def handles(self) -> int:
        """Files and connections that the process has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))


class Client:
    """Sends requests; an asynchronous context manager, so that many can be at work at once."""

    def __init__(self, server: Server) -> None:
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(
            base_url=server.address,
            timeout=_ANSWERS,
            limits=limits,
            trust_env=False,
            verify=False,  # without TLS; its setting up takes 20 ms
        )
        self._uploads = str(server.uploads)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, method: str, path: str, **more: Any) -> Reply:
        """Any request; its path is sent as it is, with all its dots and slashes."""
        start = time.perf_counter()
        target = "".join(letter if " " < letter < "\x7f" else quote(letter) for letter in path).encode()
        try:
            answer = await self._http.request(method, "/", extensions={"target": target}, **more)
        except httpx.HTTPError as error:
            return Reply(599, f"{type(error).__name__}: {error}", time.perf_counter() - start, method=method)
        seconds = time.perf_counter() - start
        return Reply(answer.status_code, answer.text, seconds, method=method, uploads=self._uploads)

    async def upload(self, name: str, content: bytes) -> Reply:
        """Uploads a file; ``content`` of the reply is a list of its path on the server."""
        boundary = "----------------8f1c0d"
        shown = name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{shown}"\r\n'
        body = (head + "Content-Type: image/png\r\n\r\n").encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return await self.send("POST", "/gradio_api/upload", content=body, headers=headers)

    async def call(self, name: str, body: str) -> Reply:
        """Calls the API, and waits for its last word."""
        headers = {"Content-Type": "application/json"}
        joined = await self.send("POST", f"/gradio_api/call/{name}", content=body.encode(), headers=headers)
        event = joined.content.get("event_id") if isinstance(joined.content, dict) else None
        if joined.status != 200 or event is None:
            return joined
        streamed = await self.send("GET", f"/gradio_api/call/{name}/{event}")
        found = re.findall(r"event: (complete|error)\ndata: (.*)", streamed.text)
        seconds = joined.seconds + streamed.seconds
        if not found:
            return Reply(599, f"no answer: HTTP {streamed.status}, {streamed.text[:200]!r}", seconds)
        return Reply(streamed.status, found[-1][1], seconds, found[-1][0], uploads=self._uploads)

    async def classify(self, *contents: bytes, classes: int = 3) -> Reply:
        """Uploads images and has them classified, as a program would."""
        start = time.perf_counter()
        uploaded = await asyncio.gather(*(self.upload("image.png", content) for content in contents))
        for one in uploaded:
            if one.status != 200 or not one.content:
                return one
        files = [{"path": one.content[0], "meta": {"_type": "gradio.FileData"}} for one in uploaded]
        answer = await self.call("classify", json.dumps({"data": [files, classes, "crop"]}))
        return replace(answer, seconds=time.perf_counter() - start)
