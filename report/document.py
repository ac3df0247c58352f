"""A report as Markdown with its pictures in a folder, and as one self-contained HTML page."""

import base64
import html
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from markdown_it import MarkdownIt
from PIL import Image
from torch import Tensor

from callbacks.rendering.fonts_and_colors import INK
from callbacks.rendering.grid import image_grid
from callbacks.rendering.markdown import escape, shade, table
from cifar_lit.errors import InputError

_PAGE = Path(__file__).with_name("page.html")
_TILE = 160  # pixels of an image in a grid, wide enough for its caption
_FILES = "report_files"  # in the report's folder
_CHART = "chart_"  # at the beginning of a chart's name, also for the Space's style sheet
_DARK = "dark_"  # at the beginning of the name of a grid's copy for dark pages, also for the Space
_PICTURE = re.compile(rf'(<img [^>]*src=")({_FILES}/[^"/]+)"[^>]*>')
_LINK = re.compile(rf'<a href="({_FILES}/([^"/]+))"')
_PERCENTAGE = re.compile(r'(<td style="text-align:right)">([\d.]+)%<')
_MEDIA_TYPES = {".png": "image/png", ".csv": "text/csv", ".yaml": "text/plain"}


def section(heading: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a function that writes a section to the document passed as its first argument.

    If it raises InputError, the reason becomes a note in the section, after what was already written.
    """

    def decorate(write: Callable[..., None]) -> Callable[..., None]:
        @wraps(write)
        def write_section(document: Document, *args: Any) -> None:
            document.heading(heading)
            print(f"Report: {heading}", flush=True)
            try:
                write(document, *args)
            except InputError as error:
                document.missing(heading, str(error))

        return write_section

    return decorate


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
        self._blocks: list[str] = []
        self._findings: list[str] = []
        self._headings: list[str] = []
        self._shaded_tables: set[int] = set()
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

    def finding(self, markdown: str) -> None:
        """Add a sentence to the key findings, which open the report."""
        self._findings.append(f"- {markdown}")

    def heading(self, text: str) -> None:
        """Add the heading of a section."""
        self._headings.append(text)
        self._blocks.append(f"## {escape(text)}")

    def text(self, markdown: str) -> None:
        """Add one or more paragraphs of Markdown."""
        self._blocks.append(markdown)

    def missing(self, what: str, why: str) -> None:
        """Add a note that some content is missing."""
        self._blocks.append(f"*{escape(what)}: {escape(why)}.*")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]], shaded: bool = False) -> None:
        """Add a table; its cells are escaped. If ``shaded``, low percentages have a darker background in HTML."""
        if shaded:
            self._shaded_tables.add(len(self._blocks))
        self._blocks.append(table([escape(cell) for cell in header], rows))

    def code(self, text: str, language: str = "") -> None:
        """Add a code block."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        self._blocks.append(f"{fence}{language}\n{text.strip()}\n{fence}")

    def picture(self, name: str, pixels: np.ndarray, description: str, is_chart: bool = False) -> None:
        """Add a picture.

        Args:
            name: Name of its file, without the suffix.
            pixels: uint8 (H, W, 3 or 4).
            description: Alternative text.
            is_chart: Whether its colors may be inverted on a dark page.
        """
        name = f"{_CHART}{name}" if is_chart else name
        self._save(name, pixels)
        self._blocks.append(f"![{escape(description)}]({_FILES}/{name}.png)")

    def grid(self, name: str, draw: Callable[..., np.ndarray], description: str) -> None:
        """Add a grid of images, for light and for dark pages.

        Args:
            name: Name of its file, without the suffix.
            draw: Called with ``dark=True`` and ``dark=False``; see ``image_grid``.
            description: Alternative text.
        """
        self._save(f"{_DARK}{name}", draw(dark=True))
        self.picture(name, draw(dark=False), description)

    def images(
        self,
        name: str,
        pixels: Tensor,
        captions: Sequence[str],
        description: str,
        columns: int = 5,
        line_colors: Sequence[str] = (INK,),
    ) -> None:
        """Add a grid of images uint8 (N, 3, H, W) with N captions; see ``grid`` and ``image_grid``."""
        tiles = pixels.permute(0, 2, 3, 1).cpu().numpy()
        self.grid(name, partial(image_grid, tiles, captions, columns, _TILE, line_colors=line_colors), description)

    def _save(self, name: str, pixels: np.ndarray) -> None:
        with _writing():
            Image.fromarray(pixels).save(self._unfinished / f"{name}.png", "PNG")

    def charts(self, name: str, charts: Mapping[str, np.ndarray], description: str) -> None:
        """Add charts, uint8 (H, W, 3) by title, side by side as far as the page is wide; see ``picture``."""
        first = len(self._blocks)
        for title, pixels in charts.items():
            file = "_".join([name, *re.findall(r"\w+", title.lower())])
            self.picture(file, pixels, f"{description}: {title}", is_chart=True)
        self._blocks[first:] = ["\n".join(self._blocks[first:])]

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
        contents = " · ".join(f"[{escape(heading)}](#{_anchor(heading)})" for heading in self._headings)
        findings = ["\n".join(["**Key findings**", "", *self._findings])] if self._findings else []
        opening = [f"# {escape(self.title)}", *findings, contents]
        markdown = "\n\n".join([*opening, *self._blocks]) + "\n"
        before, heading, settings = markdown.partition("\n## Settings\n")
        if heading:  # the last section, folded
            markdown = f'{before}\n<details id="settings"><summary>Settings</summary>\n{settings}\n</details>\n'
        page = self._html(opening)
        with _writing():
            shutil.rmtree(self.folder / _FILES, ignore_errors=True)
            self._unfinished.rename(self.folder / _FILES)
            (self.folder / "report.md").write_text(front_matter + markdown, encoding="utf-8", errors="replace")
            (self.folder / "report.html").write_text(page, encoding="utf-8", errors="replace")
        self._lock.release()

    def _html(self, opening: Sequence[str]) -> str:
        renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
        parts = list(map(renderer.render, opening))
        for number, block in enumerate(self._blocks):
            part = renderer.render(block)
            parts.append(_PERCENTAGE.sub(_shade, part) if number in self._shaded_tables else part)
        body = "".join(parts)
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        for heading in self._headings:
            text = html.escape(heading)
            body = body.replace(f"<h2>{text}</h2>", f'<h2 id="{_anchor(heading)}">{text}</h2>')
        before, heading, settings = body.partition('<h2 id="settings">Settings</h2>')
        if heading:  # the last section, folded
            body = f'{before}<details id="settings"><summary>Settings</summary>{settings}</details>'
        body = body.replace(f'<img src="{_FILES}/{_CHART}', f'<img class="chart" src="{_FILES}/{_CHART}')
        body = _PICTURE.sub(self._embed, body)
        body = _LINK.sub(lambda match: f'<a download="{match[2]}" href="{self._data_url(match[1])}"', body)
        return Template(_PAGE.read_text(encoding="utf-8")).substitute(title=html.escape(self.title), body=body)

    def _embed(self, picture: re.Match[str]) -> str:
        """Return an ``img`` tag with the picture itself, and with that for dark pages if there is one."""
        tag = picture[0].replace(picture[2], self._data_url(picture[2]))
        dark = f"{_DARK}{Path(picture[2]).name}"
        if not (self._unfinished / dark).is_file():
            return tag
        source = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{self._data_url(dark)}">'
        return f"<picture>{source}{tag}</picture>"

    def _data_url(self, source: str) -> str:
        file = self._unfinished / Path(source).name
        return f"data:{_MEDIA_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _shade(cell: re.Match[str]) -> str:
    return f'{cell[1]};{shade(float(cell[2]))}">{cell[2]}%<'


@contextmanager
def _writing() -> Iterator[None]:
    """Raise InputError if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"the report is incomplete: {error.filename}: {error.strerror or error}") from error
