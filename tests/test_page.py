"""The page as a visitor has it: the exported folder's own server, asked by a program and by a real browser."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from cifar_lit.bundle import read_bundle
from cifar_lit.judged import Judged

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"none of these browsers is installed: {', '.join(BROWSERS)}"
)


@pytest.fixture(scope="module")
def address(space: Path) -> Iterator[str]:
    """Where the page is served, by ``python app.py`` in the exported folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(space.parent / "uploads")}
    with open(space.parent / "app.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=space, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(120):
                try:
                    urlopen(f"http://127.0.0.1:{port}/config", timeout=5).read()
                    break
                except OSError:
                    assert server.poll() is None, (space.parent / "app.log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)
    log_text = (space.parent / "app.log").read_text()
    assert "Traceback" not in log_text, log_text


@pytest.fixture
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def _browser_page(address: str) -> Iterator[Page]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


@pytest.fixture
def page(_browser_page: Page, address: str) -> Page:
    """The page, freshly opened in a real browser."""
    _browser_page.goto(address)
    _browser_page.wait_for_selector("#examples img")
    return _browser_page


def write(*names: str) -> list[Path]:
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    return [Path(name).absolute() for name in names]


# By program


def test_the_api_gives_the_networks_logits_and_as_many_classes_as_asked(client: Client, space: Path) -> None:
    example = space / "bundle" / "examples" / "example_4.png"
    (answer,) = client.predict([handle_file(example)], 3, api_name="/classify")
    trained = read_bundle(space / "bundle")
    pixels = np.asarray(Image.open(example).convert("RGB"))
    import torch

    logits = trained.logits(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]
    assert answer["logits"] == pytest.approx(logits.tolist(), abs=1e-5)
    shares = (logits / trained.recipe.temperature).softmax(0)
    expected = [trained.recipe.class_names[label] for label in shares.argsort(descending=True)[:3]]
    assert [entry["class"] for entry in answer["classes"]] == expected
    assert answer["classes"][0]["confidence"] == pytest.approx(float(shares.max()), abs=1e-5)


@pytest.mark.parametrize("top_k", [0, 11, 1000, 2.5, -1])
def test_the_api_lists_ten_classes_at_most(client: Client, top_k: float) -> None:
    (path,) = write("one.png")
    with pytest.raises(AppError, match=r"top_k must be a (whole )?number from 1 to 10\."):
        client.predict([handle_file(path)], top_k, api_name="/classify")


def test_the_api_takes_ten_images_at_most(client: Client) -> None:
    (path,) = write("one.png")
    assert len(client.predict([handle_file(path)] * 10, 1, api_name="/classify")) == 10
    for count in (0, 11):
        with pytest.raises(AppError, match="images must be a list of 1 to 10 files"):
            client.predict([handle_file(path)] * count, 1, api_name="/classify")


def test_the_api_tells_of_what_it_cannot_read(client: Client) -> None:
    (path,) = write("one.png")
    Path("bad.png").write_bytes(b"<html>")
    answers = client.predict([handle_file(Path("bad.png").absolute()), handle_file(path)], 1, api_name="/classify")
    assert [answer.get("image") for answer in answers] == [2, None]
    assert answers[1]["error"].startswith("Image 1 cannot be read")


def test_the_page_names_one_api_only(client: Client) -> None:
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/classify"]


# In a browser


def answers(page: Page) -> Locator:
    return page.locator(".answer:visible")


def labels(answer: Locator) -> list[str]:
    return answer.locator('label[data-testid="block-label"]:visible').all_inner_texts()


def upload(page: Page, *files: Path | str) -> None:
    page.locator("#uploads input[type=file]").first.set_input_files(list(files))


def number(page: Page, label: str) -> Locator:
    return page.get_by_label(f"number input for {label}").locator("visible=true")


@needs_browser
def test_uploads_are_classified_explained_and_listed(page: Page) -> None:
    Path("bad.png").write_bytes(b"no image")
    upload(page, *write("a.png", "b.png", "c.png"), "bad.png")
    page.get_by_text("3 images classified.").wait_for()
    assert answers(page).count() == 3
    assert page.get_by_text("Image 4 cannot be read").is_visible()
    seen = labels(answers(page).first)
    assert seen[:2] == ["Image 1", "Seen at 32x32"]
    assert re.fullmatch(r"Why \w+\? \([\d.]+%\)", seen[2])
    assert answers(page).first.locator(".confidence-set").count() == 5

    number(page, "Classes to list for each image").fill("2")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelectorAll('.answer')[0].querySelectorAll('.confidence-set').length == 2")

    page.get_by_text("All results as a table").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["image"] for row in rows] == ["1", "2", "3"]
    assert f"Why {rows[0]['class_1']}? ({float(rows[0]['probability_1']):.1%})" == seen[2]


@needs_browser
def test_a_click_on_a_class_shows_what_speaks_for_it(page: Page) -> None:
    upload(page, *write("a.png"))
    page.get_by_text("1 image classified.").wait_for()
    answer = answers(page).first
    second = answer.locator(".confidence-set").nth(1)
    name = second.inner_text().split()[0]
    second.click()
    page.get_by_text(f"Why {name}?").wait_for()
    assert len(labels(answer)) == 5

    def picture() -> str | None:
        return answer.locator("img").nth(2).get_attribute("src")

    before = picture()
    number(page, "Opacity of the heatmap").fill("1")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "before => document.querySelectorAll('.answer')[0].querySelectorAll('img')[2].src != before", arg=before
    )
    page.get_by_label("Show where the network looks").click()
    page.get_by_text(re.compile("Why .*")).locator("visible=true").first.wait_for()  # the asked one stays
    page.get_by_label("Show where the network looks").click()


@needs_browser
def test_an_example_sets_every_control_and_is_classified(page: Page, space: Path) -> None:
    examples = json.loads((space / "bundle" / "facts.json").read_text())["examples"]
    assert len(examples) == 10
    for place in (4, 7):
        page.locator("#examples button").nth(place).click()
        page.wait_for_function(
            "count => document.querySelectorAll('.answer')[0]?.querySelectorAll('.confidence-set').length == count",
            arg=examples[place]["classes"],
        )
        assert float(number(page, "Opacity of the heatmap").input_value()) == examples[place]["opacity"]
        assert number(page, "Classes to list for each image").input_value() == str(examples[place]["classes"])
        assert (
            page.get_by_label("Layer (name").locator("visible=true").input_value().startswith(examples[place]["layer"])
        )
        assert answers(page).count() == 1


@needs_browser
def test_mistakes_are_browsed_and_sent_to_be_classified(page: Page, space: Path) -> None:
    judged = Judged.load(space / "bundle" / "judged.safetensors")
    page.get_by_role("tab", name="Misclassified").click()
    tiles = page.locator(".tiles:visible .thumbnail-item")
    page.get_by_text(f"12 of {judged.errors} mistakes").wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('.tiles .thumbnail-item')].filter(e => e.offsetParent).length == 12"
    )
    wrong = judged.predictions != judged.labels
    sure = (judged.logits / read_bundle(space / "bundle").recipe.temperature).softmax(1).amax(1) * wrong
    worst = int(sure.argmax())
    caption = tiles.first.inner_text()
    assert caption.endswith(f"{float(sure[worst]):.1%} · #{int(judged.indices[worst])}")
    true = caption.split(" →")[0]

    number(page, "How many").fill("3")
    page.keyboard.press("Tab")
    page.get_by_text(f"3 of {judged.errors} mistakes").wait_for()
    page.get_by_label("Show what speaks for the predicted").click()
    page.wait_for_function("document.querySelectorAll('.tiles .thumbnail-item img')[0].naturalWidth > 600")
    tiles.first.click()
    page.get_by_text("1 image classified.").wait_for()
    said = re.split(r" → | · ", caption)[1]
    assert labels(answers(page).first)[2].startswith(f"Why {said}?")
    assert true != said


@needs_browser
def test_a_click_on_a_cell_of_the_matrix_shows_its_images(page: Page, space: Path) -> None:
    counts = Judged.load(space / "bundle" / "judged.safetensors").counts
    page.get_by_role("tab", name="Confusion matrix").click()
    picture = page.locator("#matrix img")
    picture.wait_for()
    names = read_bundle(space / "bundle").recipe.class_names
    from callbacks.rendering.confusion import matrix_layout

    place = matrix_layout(names)
    commonest = int(counts.diagonal().argmax())
    for true, said in ((commonest, commonest), divmod(int((counts - counts.diagonal().diag()).argmax()), 10)):
        box = picture.bounding_box()
        assert box is not None
        scale = box["width"] / picture.evaluate("image => image.naturalWidth")
        x, y = (place.left + (said + 0.5) * place.cell) * scale, (place.top + (true + 0.5) * place.cell) * scale
        picture.click(position={"x": x, "y": y})
        page.get_by_text(re.compile(rf"^{counts[true, said]} images \(")).locator("visible=true").wait_for()
        assert page.get_by_label("True class (row)").input_value() == names[true]
        assert page.get_by_label("Predicted class (column)").input_value() == names[said]
        caption = page.locator(".tiles:visible .thumbnail-item").first.inner_text()
        assert caption.startswith(names[true] if true == said else f"{names[true]} → {names[said]}")


@needs_browser
def test_every_tab_opens_and_the_browser_reports_no_error(page: Page) -> None:
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None)
    page.reload()
    page.wait_for_selector("#examples img")
    for tab, text in (
        ("Misclassified", "How many"),
        ("Confusion matrix", "True class (row)"),
        ("Training", "Calibration"),
        ("About", "What the page shows"),
        ("Classify", "Your images"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(text).locator("visible=true").first.wait_for()
    assert not problems
    assert not [url for url in elsewhere if not url.startswith(("data:", "blob:"))]
