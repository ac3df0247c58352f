"""Decoding what strangers upload, in a process of its own.

A small file can be made to take gigabytes, minutes, or the process that decodes it: this one has little of each, and
another takes its place.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cifar_lit.errors import InputError
from cifar_lit.inference.images import Fit, decoded, fitted

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 16_000_000
_MOST_SCANS = 100  # of a JPEG, each of which goes over all its pixels; cameras and editors write about ten
TILE = 224  # pixels of what a person is shown of an upload, at most; small images are enlarged to it
_MEMORY = 256 * 2**20  # bytes beside what the process has when it starts
_SECONDS = 1.5  # of its own work, for a file; waiting for other processes does not count
_WAITS = 20.0  # seconds, with all waiting


@dataclass(frozen=True)
class Read:
    """An image of a file.

    seen: uint8 (H, W, 3), what the network sees.
    upload: uint8 (h, w, 3), what a person sees, reduced for the page.
    """

    seen: np.ndarray
    upload: np.ndarray


class Decoder:
    """Reads images by the other process; may be asked by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, so that the first image need not wait for it."""
        with self._lock:
            self._running()

    def read(self, path: str, size: tuple[int, int], fit: Fit) -> Read | None:
        """The image in a file; None if it is none of ``FORMATS``, not whole, or takes too much.

        Args:
            path: The file.
            size: Height and width that the network takes.
            fit: How an image of other proportions is made to fit.
        """
        with self._lock:
            try:
                return self._ask({"path": os.path.abspath(path), "size": size, "fit": fit})
            except (OSError, ValueError, EOFError):
                self.stop()
                return None

    def _ask(self, wanted: dict[str, Any]) -> Read | None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], _WAITS)[0]:
            raise EOFError
        shapes = json.loads(process.stdout.readline())  # nothing, if the process ended: no JSON
        if shapes is None:
            return None
        return Read(*(_array(process.stdout, shape) for shape in shapes))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            own = {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "space.app.decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, **own},
            )
        return self._process

    @property
    def pid(self) -> int | None:
        """The process's number."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Ends the process; the next image gets another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for end in (self._process.stdin, self._process.stdout):
                if end is not None:
                    with suppress(OSError):
                        end.close()
            self._process = None


DECODER = Decoder()
atexit.register(DECODER.stop)


def _array(stream: IO[bytes], shape: list[int]) -> np.ndarray:
    content = bytearray()
    while len(content) < shape[0] * shape[1] * 3:
        part = stream.read(shape[0] * shape[1] * 3 - len(content))
        if not part:
            raise EOFError
        content += part
    return np.frombuffer(content, np.uint8).reshape(*shape, 3)


def _serve() -> None:
    """What the other process does: a line of JSON in, the shapes of two images and their pixels out."""
    answers = os.fdopen(os.dup(1), "wb")
    _limit_memory()
    for line in sys.stdin.buffer:
        wanted = json.loads(line)
        _limit_work(_SECONDS)
        try:
            pixels = _read(Path(wanted["path"]), tuple(wanted["size"]), wanted["fit"])
        except (InputError, MemoryError, OSError):
            pixels = []
        _limit_work(0)
        answers.write(json.dumps([one.shape[:2] for one in pixels] or None).encode() + b"\n")
        for one in pixels:
            answers.write(one.tobytes())
        answers.flush()


def _read(path: Path, size: tuple[int, int], fit: Fit) -> list[np.ndarray]:
    content = path.read_bytes()
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > _MOST_SCANS:  # a JPEG's scans begin so
        raise InputError(f"{path} has more than {_MOST_SCANS} scans")
    whole = decoded(path, size, FORMATS, MOST_PIXELS)
    seen = np.asarray(fitted(whole, size, fit))
    if min(whole.size) < TILE:  # perhaps a JPEG that was decoded at a fraction of its size, too small for a person
        whole = decoded(path, (TILE, TILE), FORMATS, MOST_PIXELS)
    return [seen, np.asarray(fitted(whole, (TILE, TILE), "inside"))]


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _has_proc() else 2**31
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


def _has_proc() -> bool:
    return Path("/proc/self/statm").is_file()


def _limit_work(seconds: float) -> None:
    """Ends the process when it has worked so long; 0 takes that back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    _serve()
