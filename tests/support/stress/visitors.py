"""Hostile visitors of a Space: malformed uploads and calls, forbidden files, too many requests at once."""

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
_MAX_SECONDS, _MAX_MEMORY = 2.0, 300 * _MEGABYTE  # limits for a decompression bomb
_MAX_RECOVERY = 5.0  # seconds after a flood
_MAX_GROWTH = 0.1  # of memory during the requests of users
_SECRET = "none of your business 3141592653"


def image(seed: int, side: int = 32) -> bytes:
    """Return a PNG of noise, the same for the same seed."""
    content = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "PNG")
    return content.getvalue()


class _Guard:
    """Send a valid request after malformed ones, and report if its answer changed."""

    def __init__(self, client: Client) -> None:
        self._client, self._image = client, image(0)
        self._expected = ""

    async def start(self) -> None:
        self._expected = (await self._client.classify(self._image)).text

    async def problem(self) -> str | None:
        reply = await self._client.classify(self._image)
        return None if reply.text == self._expected else f"a valid request then got {reply.status} {reply.text[:200]!r}"


@contextlib.asynccontextmanager
async def _guarded(server: Server) -> AsyncIterator[tuple[Client, _Guard]]:
    async with Client(server) as client:
        guard = _Guard(client)
        await guard.start()
        yield client, guard


async def malformed_uploads(server: Server, files: Iterable[Upload], name: str = "malformed uploads") -> Outcome:
    """Upload malformed files and classify them."""
    failures, tried = [], 0
    async with _guarded(server) as (client, guard):
        for number, upload in enumerate(files):
            tried += 1
            uploaded = await client.upload(upload.name, upload.content)
            problem = uploaded.problem()
            if problem is None and uploaded.status == 200 and uploaded.content:
                problem = _answer_problem(await _classify(client, uploaded.content[0]), upload.valid)
            problem = problem or await guard.problem()
            if problem:
                failures.append(f"upload {number} ({upload.kind}, {upload.name!r:.40}): {problem}")
            if not server.alive:
                failures.append("the server ended")
                break
    return Outcome(f"{name}, each followed by a valid request", tried, failures)


async def odd_forms(server: Server) -> Outcome:
    """Upload with malformed multipart forms."""
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
    return Outcome("malformed upload forms", tried, failures)


async def _classify(client: Client, path: str) -> Reply:
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    return await client.call("classify", json.dumps({"data": [files, 1]}))


def _answer_problem(reply: Reply, valid: bool | None) -> str | None:
    if problem := reply.problem():
        return problem
    if reply.event != "complete":  # the call itself is valid
        return f"no answer but {reply.status} {reply.text[:200]!r}"
    [answers] = reply.content
    [answer] = answers
    if "classes" in answer:
        return "an invalid file was classified" if valid is False else None
    if valid:
        return f"a valid image was refused: {answer}"
    return None if len(answer.get("error", "")) > 10 else f"neither classes nor a message: {answer}"


async def malformed_calls(server: Server, count: int, seed: int = 0) -> Outcome:
    """Call the API with invalid arguments."""
    failures = []
    async with _guarded(server) as (client, guard):
        files = [(await client.upload("image.png", image(number))).content[0] for number in range(3)]
        for number, call in enumerate(calls(count, files, seed)):
            reply = await client.call(call.name, call.body)
            problem = reply.problem() or await guard.problem()
            if problem:
                failures.append(f"seed {seed}, call {number} ({call.name}, {call.kind}): {problem}")
            if not server.alive:
                failures.append("the server ended")
                break
    return Outcome("malformed API calls, each followed by a valid request", count, failures)


async def decompression_bombs(server: Server, max_seconds: float = _MAX_SECONDS) -> Outcome:
    """Upload and classify small files that are enormous when decoded, within limits of time and memory."""
    failures, growths, times = [], [], []
    async with _guarded(server) as (client, guard):
        files = list(bombs())
        for bomb in files:
            with _memory_samples(server) as samples:
                before, start = server.memory(), time.perf_counter()
                uploaded = await client.upload(bomb.name, bomb.content)
                problem = uploaded.problem()
                if problem is None and uploaded.status == 200:
                    problem = _answer_problem(await _classify(client, uploaded.content[0]), bomb.valid)
                times.append(time.perf_counter() - start)
            growths.append(max(samples) - before)
            if times[-1] > max_seconds:
                problem = problem or f"took {times[-1]:.1f} s"
            if growths[-1] > _MAX_MEMORY:
                problem = problem or f"took {growths[-1] / _MEGABYTE:.0f} MB"
            if problem := problem or await guard.problem():
                failures.append(f"{bomb.kind} ({len(bomb.content)} bytes): {problem}")
    figures = f"at most {max(growths) / _MEGABYTE:.0f} MB and {max(times):.2f} s"
    return Outcome("decompression bombs", len(files), failures, figures)


@contextlib.contextmanager
def _memory_samples(server: Server) -> Iterator[list[int]]:
    """Sample the server's memory every few milliseconds within the context."""
    samples, stop = [server.memory()], threading.Event()

    def sample() -> None:
        while not stop.wait(0.005):
            samples.append(server.memory())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield samples
    finally:
        stop.set()
        sampler.join()


async def flood(server: Server, count: int) -> Outcome:
    """Classify ``count`` images at once: each request must get a result or the response that the server is busy."""
    failures: list[str] = []
    async with _guarded(server) as (_, guard):
        replies = await asyncio.gather(*(_visit(server, image(number)) for number in range(count)))
        start = time.perf_counter()
        if problem := await guard.problem():
            failures.append(problem)
        recovery = time.perf_counter() - start
        if recovery > _MAX_RECOVERY:
            failures.append(f"a valid request took {recovery:.1f} s after the flood")
        for reply in replies:
            if not reply.busy and reply.event != "complete":
                failures.append(reply.problem() or f"no answer but {reply.status} {reply.text[:200]!r}")
    busy = sum(reply.busy for reply in replies)
    if busy == count:
        failures.append("no visitor got an answer")
    longest = max(reply.seconds for reply in replies)
    figures = f"{busy} answered busy, all within {longest:.1f} s, next answer after {recovery:.2f} s"
    return Outcome("simultaneous visitors", count, failures, figures)


async def _visit(server: Server, content: bytes) -> Reply:
    """Classify one image over new connections, since the server may close an idle one just as it is reused."""
    async with Client(server) as client:
        return await client.classify(content)


async def users(server: Server, count: int, seconds: float) -> Outcome:
    """Classify images for ``count`` visitors, each of whom sends the next request once the last is answered."""
    images = [image(number) for number in range(10)]
    failures: list[str] = []
    times: list[float] = []
    busy = 0
    async with Client(server) as client:
        expected = [(await client.classify(content)).text for content in images]
        before, handles = server.memory(), server.handles()
        end = time.monotonic() + seconds

        async def visit(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() < end:
                index = chance.randrange(len(images))
                reply = await _visit(server, images[index])
                times.append(reply.seconds)
                nonlocal busy
                busy += reply.busy
                if reply.text != expected[index] and not reply.busy:
                    failures.append(f"visitor {number}, image {index}: {reply.status} {reply.text[:200]!r}")

        await asyncio.gather(*map(visit, range(count)))
        growth = server.memory() / before - 1
    if growth > _MAX_GROWTH:
        failures.append(f"memory grew by {growth:.1%}")
    if busy > len(times) / 2:
        failures.append(f"{busy} of {len(times)} were answered busy")
    p99 = statistics.quantiles(times, n=100)[98]
    figures = (
        f"{len(times) / seconds:.0f} answers/s, median {statistics.median(times):.2f} s, p99 {p99:.2f} s,"
        f" {busy} answered busy, memory {growth:+.1%}, files and connections {handles} then {server.handles()}"
    )
    return Outcome(
        f"answers to {count} users in {seconds:.0f} s, equal to answers without load", len(times), failures, figures
    )


async def foreign_files(server: Server, folder: Path) -> Outcome:
    """Request files of the server that were not uploaded, and addresses of other servers."""
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
    with _listening() as (url, visits):
        target = url.split("//")[1]
        paths += [url, f"http:/{target}", f"//{target}", f"HTTP://{target}", f"ftp://{target}", f" {url}"]
        routes = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/proxy=", "/proxy=", "/"]
        routes += ["/static/", "/assets/", "/svelte/", "/gradio_api/stream/", "/gradio_api/custom_component/"]
        async with _guarded(server) as (client, guard):
            requests = [f"{route}{path}" for route in routes for path in paths]
            requests += [f"/gradio_api/upload_progress?upload_id={path}" for path in paths[:3]]
            for request in requests:
                reply = await client.send("GET", request)
                if _leaks(reply):
                    failures.append(f"GET {request}: {reply.text[:100]!r}")
            for path in paths:
                for file in ({"path": path}, {"path": path, "url": path}, {"path": "a.png", "url": path}):
                    file |= {"meta": {"_type": "gradio.FileData"}}
                    data = [[file], "", "", "gradcam", 0.0]
                    for reply in (
                        await client.call("explain", json.dumps({"data": data})),
                        await client.call("classify", json.dumps({"data": [[file], 1]})),
                    ):
                        answered = reply.event == "complete" and reply.text not in ("[]", "[[]]")
                        refused = reply.event == "complete" and '"error"' in reply.text
                        if _leaks(reply) or (answered and not refused):
                            failures.append(f"the file {file}: {reply.text[:100]!r}")
            if problem := await guard.problem():
                failures.append(problem)
            await asyncio.sleep(0.5)
        failures += [f"the server fetched {visit}" for visit in visits]
    return Outcome("requests for private files and pages", len(requests) + 6 * len(paths), failures)


def _leaks(reply: Reply) -> bool:
    text = reply.text
    return _SECRET in text or "root:x:0" in text or "GRADIO_SERVER_PORT=" in text or '"class_path"' in text


@contextlib.contextmanager
def _listening() -> Iterator[tuple[str, list[str]]]:
    """Run a local server, and yield its URL and the requests that it receives."""
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
    """Send empty and invalid requests to every route of Gradio and every event of the page.

    Args:
        server: The Space's server.
        seed: Seed of the path parameters.
    """
    failures, tried = [], 0
    chance = random.Random(seed)
    async with _guarded(server) as (client, guard):
        config = (await client.send("GET", "/config")).content
        invalid: list[Any] = [None, {}, [], {"data": None}, {"data": [1] * 30}, {"session_hash": "x", "event_id": "y"}]
        for method, route in _routes():
            path = re.sub(r"{[^}]*}", lambda _: chance.choice(["x", "0", "..", "classify"]), route)
            for body in [None] if method in ("GET", "HEAD") else invalid:
                tried += 1
                reply = await client.send(method, path, **({} if body is None else {"json": body}), timeout=3)
                streams = "heartbeat" in path and reply.status == 599 and "Timeout" in reply.text  # an endless stream
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
    """Return the methods and path templates of all routes that Gradio serves for any page.

    Must be called in an event loop; without one, Gradio creates loops that it never closes.
    """
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("")
    routes = _flatten(gr.routes.App.create_app(page).routes)
    return sorted({(method, route.path) for route in routes for method in getattr(route, "methods", None) or {"GET"}})


def _flatten(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes, including those of nested routers, which Gradio includes without a prefix."""
    for route in routes:
        if hasattr(route, "original_router"):
            assert not route.include_context.prefix
            yield from _flatten(route.original_router.routes)
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


def in_turn(*stress_tests: Awaitable[Outcome]) -> list[Outcome]:
    """Run stress tests one after the other, and return their outcomes."""

    async def run() -> list[Outcome]:
        return [await stress_test for stress_test in stress_tests]

    return asyncio.run(run())
