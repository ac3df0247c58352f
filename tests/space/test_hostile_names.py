"""Class and file names that contain HTML or scripts are displayed as text."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from main import main
from tests.support.browser import BROWSER, needs_browser
from tests.support.images import write_class_folders, write_noise
from tests.support.program import ROOT, TINY
from tests.support.stress.page import Server

# Each sets ``pwned`` if executed; none contains a slash, since each is also the name of a folder
HOSTILE = (
    "<script>pwned=1<script>",
    '<img src=x onerror="pwned=1">',
    "<svg onload=pwned=1>",
    '"><img src=x onerror=pwned=1>',
    "'><svg onload=pwned=1>",
    "' onmouseover='pwned=1",
    "javascript:pwned=1",
    "[click](javascript:pwned=1)",
    "![x](x onerror=pwned=1)",
    "<a href=javascript:pwned=1>x<a>",
    "<iframe srcdoc='<script>parent.pwned=1<script>'>",
    "<body onload=pwned=1>",
    "<input autofocus onfocus=pwned=1>",
    "<details open ontoggle=pwned=1>",
    "<video src=x onerror=pwned=1>",
    "<style>*{display:none}",
    "{{constructor.constructor('pwned=1')()}}",
    "${pwned=1}",
    "`pwned=1`",
    r"$$\href{javascript:pwned=1}{x}$$",
    "&lt;img src=x onerror=pwned=1&gt;",
    "<math><mi xlink:href=javascript:pwned=1>x",
    "<object data=javascript:pwned=1>",
    "<form action=javascript:pwned=1><button>go",
    "<!--<img src=--><img src=x onerror=pwned=1>",
    "\u202egnp.<img src=x onerror=pwned=1>",
    "a|b\tc",
    "# heading",
    "<marquee onstart=pwned=1>",
    "__proto__",
)
_INJECTED = ", ".join(
    [
        *(f"[on{event}]" for event in ("error", "load", "focus", "toggle", "start", "mouseover")),
        *('a[href^="javascript"]', "iframe", "object", "marquee", "math", "details[open]", 'img[src="x"]'),
    ]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Page]:
    """Open the page of a network with these class names in a real browser."""
    folder = tmp_path_factory.mktemp("hostile")
    monkeypatch_module.chdir(folder)
    write_class_folders(Path("images"), HOSTILE, train=10, test=2)
    data = ["--data", "ClassFolders", "--data.root", "images", "--data.batch_size", "30"]
    assert main(["fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), *TINY, *data]) == 0
    assert main(["export", "--ckpt_path", "last", "--output", "space"]) == 0
    with Server(folder / "space", folder) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        opened.goto(server.address)
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def upload(names: list[str]) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("tab", name="Classify").click()
        page.locator("#uploads input[type=file]").first.set_input_files(write_noise(*names))
        page.get_by_text(f"{len(names)} images classified.").wait_for()

    return act


def open_tab(name: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(1500)

    return act


@needs_browser
@pytest.mark.parametrize(
    "act",
    [
        *(upload([f"{name}.png" for name in HOSTILE[first : first + 10]]) for first in (0, 10, 20)),
        *map(open_tab, ("Misclassified", "Confusion matrix", "Training", "About")),
    ],
    ids=["files 1-10", "files 11-20", "files 21-30", "misclassified", "confusion", "training", "about"],
)
def test_names_are_never_executed(act: Callable[[Page], None], page: Page) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    act(page)
    assert not dialogs
    assert page.evaluate("window.pwned") is None
    assert page.locator(_INJECTED).count() == 0, page.locator(_INJECTED).first.evaluate("node => node.outerHTML")
    assert page.locator("body").is_visible()
