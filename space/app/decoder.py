"""Decode uploaded images in a separate process.

A small file can exhaust the memory or CPU time of the process that decodes it, or crash it. This process has strict
limits, and is restarted after a failure.
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
from typing import Any

import numpy as np
from PIL import Image

from cifar_lit.errors import InputError
from cifar_lit.inference.images import ImageTooLargeError, Resizing, decode_image, readable_formats

MAX_PIXELS = 16_000_000  # to decode; a JPEG file may have more, since it is decoded at a reduced size
_UNREADABLE = "cannot be read: expected an intact image, such as a JPEG, PNG, WebP, AVIF or TIFF file"
TILE = 224  # maximum side of a displayed upload in pixels; small images are enlarged to it
_MAX_SCANS = 100  # of a progressive JPEG, each of which covers all pixels; cameras and editors write about ten
_MAX_MEMORY = 256 * 2**20  # bytes, on top of the memory of the idle process
_MAX_CPU_SECONDS = 2.5  # per file; a photo of 50 megapixels takes about one
_TIMEOUT = 20.0  # seconds per file, including time spent waiting for other processes


@dataclass(frozen=True)
class DecodedImage:
    """A decoded upload.

    pixels: uint8 (H, W, 3), the network's input.
    upload: uint8 (h, w, 3), the original, scaled down for display.
    """

    pixels: np.ndarray
    upload: np.ndarray


class Decoder:
    """Client of the decoder process, safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process in advance, so that the first image does not wait for it."""
        with self._lock:
            self._running()

    def read(self, path: str, resizing: Resizing) -> DecodedImage:
        """Return the image in a file.

        Args:
            path: The file.
            resizing: How to resize it for the network.

        Raises:
            InputError: if it is of another format, is damaged, or exceeds the limits; the message follows the
                name of the image.
        """
        with self._lock:
            try:
                return self._request({"path": os.path.abspath(path), "resizing": resizing})
            except (OSError, ValueError, EOFError) as error:
                self.stop()
                raise InputError(_UNREADABLE) from error

    def _request(self, request: dict[str, Any]) -> DecodedImage:
        process = self._running()
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        if not select.select([stdout], [], [], _TIMEOUT)[0]:
            raise EOFError
        reply = json.loads(stdout.readline())  # empty, hence ValueError, if the process died
        if "error" in reply:
            raise InputError(reply["error"])
        arrays = (np.frombuffer(stdout.read(3 * h * w), np.uint8).reshape(h, w, 3) for h, w in reply["shapes"])
        return DecodedImage(*arrays)  # ValueError if the stream ends early

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process, started if necessary."""
        if self._process is None or self._process.poll() is not None:
            variables = {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "space.app.decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **variables},
            )
        return self._process

    def stop(self) -> None:
        """Kill the process; the next image starts another one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._process = None


DECODER = Decoder()
atexit.register(DECODER.stop)


def _serve() -> None:
    """Answer each request, a line of JSON, with the shapes of two images and their pixels, or with an error."""
    replies = os.fdopen(os.dup(1), "wb")
    readable_formats()  # loads the plugins of all formats
    _limit_memory()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        path, images = Path(request["path"]), []
        signal.setitimer(signal.ITIMER_PROF, _MAX_CPU_SECONDS)  # kills this process
        try:
            images = _decode(path, Resizing(*request["resizing"]))
            reply: dict[str, Any] = {"shapes": [image.shape[:2] for image in images]}
        except ImageTooLargeError as error:
            reply = {"error": f"is too large: it {str(error).removeprefix(f'{path} ')}, except for JPEG files"}
        except (InputError, MemoryError, OSError):
            reply = {"error": _UNREADABLE}
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps(reply).encode() + b"\n")
        for image in images:
            replies.write(image.tobytes())
        replies.flush()


def _decode(path: Path, resizing: Resizing) -> list[np.ndarray]:
    """Return the network's input and the image to display."""
    content = path.read_bytes()
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > _MAX_SCANS:  # JPEG, start of scan
        raise InputError(f"{path} has more than {_MAX_SCANS} scans")
    image = decode_image(path, resizing.size, MAX_PIXELS)
    pixels = np.asarray(resizing.apply(image))
    if min(image.size) < TILE:  # possibly a JPEG decoded at a reduced size, too small to display
        image = decode_image(path, (TILE, TILE), MAX_PIXELS)
    image.thumbnail((TILE, TILE), Image.Resampling.BILINEAR)
    return [pixels, np.asarray(image)]


def _limit_memory() -> None:
    """Limit the address space of this process, where the system supports it."""
    import resource  # not available on Windows

    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.is_file() else 2**31
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (used + _MAX_MEMORY, used + _MAX_MEMORY))


if __name__ == "__main__":
    _serve()
