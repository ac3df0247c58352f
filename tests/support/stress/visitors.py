"""A Space's visitors at their worst: broken files, wrong calls, files that are not theirs, too many at once."""

import asyncio
import contextlib
import io
import json
import random
import re
import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from tests.support.stress.calls import calls
from tests.support.stress.outcome import Outcome
from tests.support.stress.page import Client, Reply, Server
from tests.support.stress.uploads import Upload, bombs

_MEGABYTE = 2**20
_MOST_SECONDS, _MOST_MEMORY = 2.0, 300 * _MEGABYTE  # that a decompression bomb may cost
_RECOVERS = 5.0  # seconds after a flood
_MOST_GROWTH = 0.1  # of memory while users ask
_SECRET = "none of your business 3141592653"


def image(seed: int, side: int = 32) -> bytes:
    """A PNG of noise that is always the same for a seed."""
    content = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "PNG")
    return content.getvalue()


class _Guard:
    """Send a valid request after each fault, and report an answer that differs from before."""

    def __init__(self, client: Client) -> None:
        self._client, self._image = client, image(0)
        self._before = ""

    async def begin(self) -> None:
        self._before = (await self._client.classify(self._image)).text

    async def problem(self) -> str | None:
        reply = await self._client.classify(self._image)
        return None if reply.text == self._before else f"a good request then got {reply.status} {reply.text[:200]!r}"


@contextlib.asynccontextmanager
async def _guarded(server: Server) -> AsyncIterator[tuple[Client, _Guard]]:
    async with Client(server) as client:
        guard = _Guard(client)
        await guard.begin()
        yield client, guard


async def malformed_uploads(server: Server, files: Iterable[Upload], what: str = "malformed uploads") -> Outcome:
    """Uploads broken files, and has them classified."""
    failures, tried = [], 0
    async with _guarded(server) as (client, guard):
        for number, upload in enumerate(files):
            tried += 1
            sent = await client.upload(upload.name, upload.content)
            problem = sent.problem()
            if problem is None and sent.status == 200 and sent.content:
                problem = _answer_problem(await _classified(client, sent.content[0]), upload.whole)
            problem = problem or await guard.problem()
            if problem:
                failures.append(f"upload {number} ({upload.kind}, {upload.name!r:.40}): {problem}")
            if not server.alive:
                failures.append("the server ended")
                break
    return Outcome(f"{what}, a good request after each", tried, failures)


async def odd_forms(server: Server) -> Outcome:
    """Uploads whose form is wrong, whatever the file."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"'
    bodies = [b"", b"--x--", b"--x\r\n", head, head + b"\r\n\r\nno file\r\n--x--\r\n", bytes(100_000)]
    bodies += [head + b'; filename="..">\r\n\r\n1\r\n--x--\r\n', head + b'; filename=""\r\n\r\n\r\n--x--\r\n']
    bodies += [head.replace(b"files", b"other") + b'; filename="a.png"\r\n\r\n1\r\n--x--\r\n', head * 5000]
    kinds = [
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "text/plain",
        "",
    ]
    failures, tried = [], 0
    async with _guarded(server) as (client, guard):
        for path in ("/gradio_api/upload", "/gradio_api/upload?upload_id=1", "/gradio_api/upload/"):
            for kind in kinds:
                for body in bodies:
                    tried += 1
                    reply = await client.send("POST", path, content=body, headers={"Content-Type": kind})
                    if problem := reply.problem():
                        failures.append(f"{path}, {kind!r}, {body[:80]!r}: {problem}")
        if problem := await guard.problem():
            failures.append(problem)
    return Outcome("uploads whose form is wrong", tried, failures)


async def _classified(client: Client, path: str) -> Reply:
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    return await client.call("classify", json.dumps({"data": [files, 1, "crop"]}))


def _answer_problem(reply: Reply, whole: bool | None) -> str | None:
    if problem := reply.problem():
        return problem
    if reply.event != "complete":  # for the call itself is as it should be
        return f"no answer but {reply.status} {reply.text[:200]!r}"
    [answers] = reply.content
    [answer] = answers
    if "classes" in answer:
        return "what is no image was classified" if whole is False else None
    if whole:
        return f"a whole image is refused: {answer}"
    return None if len(answer.get("error", "")) > 10 else f"neither classes nor a message: {answer}"


async def malformed_calls(server: Server, count: int, seed: int = 0) -> Outcome:
    """Calls the API with what it does not take."""
    failures = []
    async with _guarded(server) as (client, guard):
        good = [(await client.upload("image.png", image(number))).content[0] for number in range(3)]
        for number, call in enumerate(calls(count, good, seed)):
            reply = await client.call(call.name, call.body)
            problem = reply.problem() or await guard.problem()
            if problem:
                failures.append(f"seed {seed}, call {number} ({call.name}, {call.kind}): {problem}")
            if not server.alive:
                failures.append("the server ended")
                break
    return Outcome("malformed calls of the API, a good request after each", count, failures)


async def decompression_bombs(server: Server, most_seconds: float = _MOST_SECONDS) -> Outcome:
    """Small files that are enormous when decoded, each of which is to be answered within so many seconds."""
    failures, growths, times = [], [], []
    async with _guarded(server) as (client, guard):
        found = list(bombs())
        for bomb in found:
            with _peak_of(server) as peak:
                before, start = server.memory(), time.perf_counter()
                sent = await client.upload(bomb.name, bomb.content)
                problem = sent.problem()
                if problem is None and sent.status == 200:
                    problem = _answer_problem(await _classified(client, sent.content[0]), bomb.whole)
                times.append(time.perf_counter() - start)
            growths.append(max(peak) - before)
            if times[-1] > most_seconds:
                problem = problem or f"took {times[-1]:.1f} s"
            if growths[-1] > _MOST_MEMORY:
                problem = problem or f"took {growths[-1] / _MEGABYTE:.0f} MB"
            if problem := problem or await guard.problem():
                failures.append(f"{bomb.kind} ({len(bomb.content)} bytes): {problem}")
    figures = f"at most {max(growths) / _MEGABYTE:.0f} MB and {max(times):.2f} s"
    return Outcome("decompression bombs", len(found), failures, figures)


@contextlib.contextmanager
def _peak_of(server: Server) -> Iterator[list[int]]:
    """The server's memory every few milliseconds."""
    seen, ended = [server.memory()], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            seen.append(server.memory())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


async def flood(server: Server, count: int) -> Outcome:
    """So many visitors at the same moment: each gets a result, or sees that the page is busy."""
    failures: list[str] = []
    async with _guarded(server) as (_, guard):
        replies = await asyncio.gather(*(_visit(server, image(number)) for number in range(count)))
        start = time.perf_counter()
        if problem := await guard.problem():
            failures.append(problem)
        recovery = time.perf_counter() - start
        if recovery > _RECOVERS:
            failures.append(f"a good request took {recovery:.1f} s after the flood")
        for reply in replies:
            if not reply.busy and reply.event != "complete":
                failures.append(reply.problem() or f"no answer but {reply.status} {reply.text[:200]!r}")
    busy = sum(reply.busy for reply in replies)
    if busy == count:
        failures.append("nobody got an answer")
    longest = max(reply.seconds for reply in replies)
    figures = f"{busy} saw that it is busy, all within {longest:.1f} s, next answer after {recovery:.2f} s"
    return Outcome("visitors at the same moment", count, failures, figures)


async def _visit(server: Server, content: bytes) -> Reply:
    """One image classified over connections of one's own: another's may be closed, for idleness, as one takes it."""
    async with Client(server) as own:
        return await own.classify(content)


async def users(server: Server, count: int, seconds: float) -> Outcome:
    """So many visitors for a while, each of whom asks again when it has its answer."""
    images = [image(number) for number in range(10)]
    failures: list[str] = []
    taken: list[float] = []
    busy = 0
    async with Client(server) as client:
        alone = [(await client.classify(one)).text for one in images]
        before, handles = server.memory(), server.handles()
        end = time.monotonic() + seconds

        async def visit(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() < end:
                place = chance.randrange(len(images))
                reply = await _visit(server, images[place])
                taken.append(reply.seconds)
                nonlocal busy
                busy += reply.busy
                if reply.text != alone[place] and not reply.busy:
                    failures.append(f"visitor {number}, image {place}: {reply.status} {reply.text[:200]!r}")

        await asyncio.gather(*map(visit, range(count)))
        growth = server.memory() / before - 1
    if growth > _MOST_GROWTH:
        failures.append(f"memory grew by {growth:.1%}")
    if busy > len(taken) / 2:
        failures.append(f"{busy} of {len(taken)} saw that the page is busy")
    slowest = statistics.quantiles(taken, n=100)[98]
    figures = (
        f"{len(taken) / seconds:.0f} answers/s, median {statistics.median(taken):.2f} s, p99 {slowest:.2f} s,"
        f" {busy} saw that it is busy, memory {growth:+.1%}, files and connections {handles} then {server.handles()}"
    )
    return Outcome(
        f"answers to {count} users in {seconds:.0f} s equal to those given alone", len(taken), failures, figures
    )


async def foreign_files(server: Server, folder: Path) -> Outcome:
    """Asks for files of the server that nobody was given, and for pages of other servers."""
    secret = folder.parent / "secret.txt"
    secret.write_text(_SECRET)
    (folder / "secret.txt").write_text(_SECRET)
    link = server.uploads / "link.txt"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    failures = []
    paths = [str(secret), str(folder / "secret.txt"), str(folder / "app.py"), str(link), "secret.txt", "app.py"]
    paths += ["bundle/bundle.json", "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "....//secret.txt"]
    paths += ["/etc/passwd", "/proc/self/environ", "/proc/self/cwd/secret.txt", f"{server.uploads}/../secret.txt"]
    with _listening() as (own_address, visits):
        own = own_address.split("//")[1]
        paths += [own_address, f"http:/{own}", f"//{own}", f"HTTP://{own}", f"ftp://{own}", f" {own_address}"]
        places = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/proxy=", "/proxy=", "/"]
        places += ["/static/", "/assets/", "/svelte/", "/gradio_api/stream/", "/gradio_api/custom_component/"]
        async with _guarded(server) as (client, guard):
            asked = [f"{place}{path}" for place in places for path in paths]
            asked += [f"/gradio_api/upload_progress?upload_id={path}" for path in paths[:3]]
            for request in asked:
                reply = await client.send("GET", request)
                if _leaks(reply):
                    failures.append(f"GET {request}: {reply.text[:100]!r}")
            for path in paths:
                for file in ({"path": path}, {"path": path, "url": path}, {"path": "a.png", "url": path}):
                    file |= {"meta": {"_type": "gradio.FileData"}}
                    data = [[file], "", "", "gradcam", 0.0, "crop"]
                    for reply in (
                        await client.call("explain", json.dumps({"data": data})),
                        await client.call("classify", json.dumps({"data": [[file], 1, "crop"]})),
                    ):
                        answered = reply.event == "complete" and reply.text not in ("[]", "[[]]")
                        text = reply.event == "complete" and '"error"' in reply.text  # that it cannot be read
                        if _leaks(reply) or (answered and not text):
                            failures.append(f"the file {file}: {reply.text[:100]!r}")
            if problem := await guard.problem():
                failures.append(problem)
            await asyncio.sleep(0.5)
        failures += [f"the server fetched {visit}" for visit in visits]
    return Outcome("requests for files and pages that are not for visitors", len(asked) + 6 * len(paths), failures)


def _leaks(reply: Reply) -> bool:
    text = reply.text
    return _SECRET in text or "root:x:0" in text or "GRADIO_SERVER_PORT=" in text or '"class_path"' in text


@contextlib.contextmanager
def _listening() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and who asked it for something."""
    visits: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    visits.append(connection.recv(200).decode(errors="replace"))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png", visits
        listener.shutdown(socket.SHUT_RDWR)


async def every_route(server: Server, seed: int = 0) -> Outcome:
    """Tries every route that gradio has, and every event of the page, with nothing and with nonsense.

    Args:
        server: The Space's.
        seed: Of the nonsense.
    """
    failures, tried = [], 0
    chance = random.Random(seed)
    async with _guarded(server) as (client, guard):
        config = (await client.send("GET", "/config")).content
        nonsense: list[Any] = [None, {}, [], {"data": None}, {"data": [1] * 30}, {"session_hash": "x", "event_id": "y"}]
        for method, route in _routes():
            path = re.sub(r"{[^}]*}", lambda _: chance.choice(["x", "0", "..", "classify"]), route)
            waits: dict[str, Any] = {"timeout": 3}
            for body in [None] if method in ("GET", "HEAD") else nonsense:
                tried += 1
                reply = await client.send(method, path, **({} if body is None else {"json": body}), **waits)
                streams = "heartbeat" in path and reply.status == 599 and "Timeout" in reply.text  # it goes on for ever
                if not streams and (problem := reply.problem()):
                    failures.append(f"{method} {path} {body}: {problem}")
        for event in config["dependencies"]:
            for data in ([], [None] * len(event["inputs"]), ["x"] * len(event["inputs"]), [[[]]] * 40):
                tried += 1
                body = {"data": data, "fn_index": event["id"], "session_hash": f"s{tried}"}
                reply = await client.send("POST", "/gradio_api/queue/join", json=body)
                if problem := reply.problem():
                    failures.append(f"event {event['id']} with {data}: {problem}")
                if reply.status == 200:
                    streamed = await client.send("GET", f"/gradio_api/queue/data?session_hash=s{tried}")
                    if problem := _stream_problem(streamed):
                        failures.append(f"event {event['id']} with {data}: {problem}")
        if problem := await guard.problem():
            failures.append(problem)
    return Outcome("requests to every route and every event of the page", tried, failures)


def _routes() -> list[tuple[str, str]]:
    """The methods and paths, with places in braces, that gradio's server has, of any page.

    In an event loop, since gradio makes some, and closes none, where there is none.
    """
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("")
    found = _paths(gr.routes.App.create_app(page).routes)
    return sorted({(method, route.path) for route in found for method in getattr(route, "methods", None) or {"GET"}})


def _paths(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes, with those of the routers among them, which gradio includes without a prefix."""
    for route in routes:
        if hasattr(route, "original_router"):
            assert not route.include_context.prefix
            yield from _paths(route.original_router.routes)
        else:
            yield route


def _stream_problem(streamed: Reply) -> str | None:
    if problem := streamed.problem():
        return problem
    ends = [json.loads(line[6:]) for line in streamed.text.splitlines() if '"process_completed"' in line]
    if not ends:
        return f"no answer: {streamed.text[:200]!r}"
    output = ends[-1].get("output", {})
    if not ends[-1]["success"] and len(output.get("error") or "") < 8:
        return f"an error without a message: {output}"
    return None


def in_turn(*asked: Awaitable[Outcome]) -> list[Outcome]:
    """What comes of each, one after the other."""

    async def ask() -> list[Outcome]:
        return [await one for one in asked]

    return asyncio.run(ask())
