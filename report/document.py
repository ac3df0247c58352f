"""A report on its way to paper: Markdown with its pictures beside it, and the same as one page of HTML."""

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

_FILES = "report_files"  # beside the Markdown
_PICTURE = re.compile(rf'<img src="({_FILES}/[^"/]+)"')
_LINK = re.compile(rf'<a href="({_FILES}/([^"/]+))"')


class Document:
    """Collects what a report says, and writes it.

    Args:
        folder: Where to write ``report.md``, ``report.html`` and a folder of pictures and tables.
        title: Of the report.

    Raises:
        InputError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self._parts = [f"# {escape(title)}"]
        self._unfinished = folder / f".{_FILES}"  # an earlier report's stay until this one is whole
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")  # until this process ends
            self._lock.acquire(timeout=0)
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir()
        except Timeout as error:
            raise InputError(
                f"another report is being written to {folder}: wait for it, or choose another --output"
            ) from error
        except OSError as error:
            raise InputError(f"--output: {folder} cannot be written ({error.strerror or error})") from error

    def heading(self, text: str) -> None:
        """A heading of a part."""
        self._parts.append(f"## {escape(text)}")

    def text(self, markdown: str) -> None:
        """A paragraph, or several, in Markdown."""
        self._parts.append(markdown)

    def missing(self, what: str, why: str) -> None:
        """A line about a part that cannot be written."""
        self._parts.append(f"*{escape(what)}: {escape(why)}.*")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table; its cells are shown letter by letter."""
        self._parts.append(table([escape(cell) for cell in header], rows))

    def code(self, text: str, language: str = "") -> None:
        """Text as it is typed."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        self._parts.append(f"{fence}{language}\n{text.strip()}\n{fence}")

    def picture(self, name: str, pixels: np.ndarray, description: str) -> None:
        """A picture.

        Args:
            name: Of its file, without the suffix.
            pixels: uint8 (H, W, 3).
            description: For those who do not see it.
        """
        with _told():
            Image.fromarray(pixels).save(self._unfinished / f"{name}.png", "PNG")
        self._parts.append(f"![{escape(description)}]({_FILES}/{name}.png)")

    def file(self, name: str, content: str, link: str) -> str:
        """Puts a file beside the report.

        Args:
            name: Of the file.
            content: Its text; names of files in it may be such as are no text.
            link: What the link says that leads to it.

        Returns:
            The link, in Markdown.
        """
        with _told():
            (self._unfinished / name).write_text(content, encoding="utf-8", errors="surrogateescape", newline="")
        return f"[{escape(link)}]({_FILES}/{name})"

    @property
    def markdown(self) -> str:
        """All of it."""
        return "\n\n".join(self._parts) + "\n"

    def write(self, front_matter: str = "") -> None:
        """Writes both files.

        Args:
            front_matter: What stands before the Markdown, for the Hub.

        Raises:
            InputError: if they cannot be written.
        """
        page = self._html()
        with _told():
            shutil.rmtree(self.folder / _FILES, ignore_errors=True)
            self._unfinished.rename(self.folder / _FILES)
            (self.folder / "report.md").write_text(front_matter + self.markdown, encoding="utf-8", errors="replace")
            (self.folder / "report.html").write_text(page, encoding="utf-8", errors="replace")
        self._lock.release()

    def _html(self) -> str:
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(self.markdown)
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        body = _PICTURE.sub(lambda found: f'<img src="{self._embedded(found[1])}"', body)
        body = _LINK.sub(lambda found: f'<a download="{found[2]}" href="{self._embedded(found[1])}"', body)
        return Template(_PAGE).substitute(title=html.escape(self.title), body=body)

    def _embedded(self, source: str) -> str:
        file = self._unfinished / Path(source).name
        kind = {".png": "image/png", ".csv": "text/csv", ".yaml": "text/plain"}[file.suffix]
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be written is told to the user."""
    try:
        yield
    except OSError as error:
        raise InputError(f"the report is not complete: {error.filename}: {error.strerror or error}") from error


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
