"""A report as Markdown with its pictures in a folder, and as one self-contained HTML page."""

import base64
import html
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template

import numpy as np
from filelock import FileLock, Timeout
from markdown_it import MarkdownIt
from PIL import Image

from callbacks.rendering.markdown import escape, table
from cifar_lit.errors import InputError

_FILES = "report_files"  # in the report's folder
_PICTURE = re.compile(rf'<img src="({_FILES}/[^"/]+)"')
_LINK = re.compile(rf'<a href="({_FILES}/([^"/]+))"')
_MEDIA_TYPES = {".png": "image/png", ".csv": "text/csv", ".yaml": "text/plain"}


class Document:
    """Collects the content of a report, and writes it.

    Args:
        folder: Folder for ``report.md``, ``report.html`` and a folder of pictures and tables.
        title: Title of the report.

    Raises:
        InputError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self._blocks = [f"# {escape(title)}"]
        self._unfinished = folder / f".{_FILES}"  # replaces an earlier report's files when this report is complete
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")  # held until the report is written or the process ends
            self._lock.acquire(timeout=0)
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir()
        except Timeout as error:
            raise InputError(
                f"another report is being written to {folder}; wait for it, or choose another --output"
            ) from error
        except OSError as error:
            raise InputError(f"--output: {folder} cannot be written ({error.strerror or error})") from error

    def heading(self, text: str) -> None:
        """Add the heading of a section."""
        self._blocks.append(f"## {escape(text)}")

    def text(self, markdown: str) -> None:
        """Add one or more paragraphs of Markdown."""
        self._blocks.append(markdown)

    def missing(self, what: str, why: str) -> None:
        """Add a note that some content is missing."""
        self._blocks.append(f"*{escape(what)}: {escape(why)}.*")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; its cells are escaped."""
        self._blocks.append(table([escape(cell) for cell in header], rows))

    def code(self, text: str, language: str = "") -> None:
        """Add a code block."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        self._blocks.append(f"{fence}{language}\n{text.strip()}\n{fence}")

    def picture(self, name: str, pixels: np.ndarray, description: str) -> None:
        """Add a picture.

        Args:
            name: Name of its file, without the suffix.
            pixels: uint8 (H, W, 3).
            description: Alternative text.
        """
        with _writing():
            Image.fromarray(pixels).save(self._unfinished / f"{name}.png", "PNG")
        self._blocks.append(f"![{escape(description)}]({_FILES}/{name}.png)")

    def file(self, name: str, content: str, link: str) -> str:
        """Write a file next to the report, and return a link to it, in Markdown.

        Args:
            name: Name of the file.
            content: Its text; surrogate escapes, as in names of files, are written as the original bytes.
            link: Text of the link.
        """
        with _writing():
            (self._unfinished / name).write_text(content, encoding="utf-8", errors="surrogateescape", newline="")
        return f"[{escape(link)}]({_FILES}/{name})"

    def write(self, front_matter: str = "") -> None:
        """Write both files.

        Args:
            front_matter: Put before the Markdown, for the Hub.

        Raises:
            InputError: if they cannot be written.
        """
        markdown = "\n\n".join(self._blocks) + "\n"
        page = self._html(markdown)
        with _writing():
            shutil.rmtree(self.folder / _FILES, ignore_errors=True)
            self._unfinished.rename(self.folder / _FILES)
            (self.folder / "report.md").write_text(front_matter + markdown, encoding="utf-8", errors="replace")
            (self.folder / "report.html").write_text(page, encoding="utf-8", errors="replace")
        self._lock.release()

    def _html(self, markdown: str) -> str:
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        body = _PICTURE.sub(lambda match: f'<img src="{self._data_url(match[1])}"', body)
        body = _LINK.sub(lambda match: f'<a download="{match[2]}" href="{self._data_url(match[1])}"', body)
        return Template(_PAGE).substitute(title=html.escape(self.title), body=body)

    def _data_url(self, source: str) -> str:
        file = self._unfinished / Path(source).name
        return f"data:{_MEDIA_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


@contextmanager
def _writing() -> Iterator[None]:
    """Raise InputError if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"the report is incomplete: {error.filename}: {error.strerror or error}") from error


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2; break-after: avoid }
h2 { border-bottom: 1px solid #ddd; padding-bottom: .2rem; margin-top: 2.5rem }
.table { overflow-x: auto }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { border: 1px solid #ddd; padding: .25rem .6rem; text-align: left }
thead:has(th:first-child:empty + th:empty) { display: none }
th { background: #f5f5f5 }
img { max-width: 100%; height: auto }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem }
@page { margin: 15mm }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt }
  img, tr { break-inside: avoid }
  p:has(+ p > img), p:has(+ .table) { break-after: avoid }
  .table, pre { overflow: visible }
  pre { white-space: pre-wrap }
}
</style>
</head>
<body>
$body
</body>
</html>
"""
