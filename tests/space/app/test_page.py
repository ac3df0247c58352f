"""The server of an exported Space, called through its API and opened in a real browser."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import numpy as np
import pytest
import sklearn.datasets
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from callbacks.rendering.confusion import matrix_layout
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import read_bundle
from space.app.bundle_metadata import METADATA
from tests.support.browser import BROWSER, LOWEST_CONTRAST, needs_browser, open_tab
from tests.support.images import write_noise
from tests.support.stress.page import Server

PHOTO = Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"


@pytest.fixture(scope="module")
def address(space: Path) -> Iterator[str]:
    """Serve the page with ``python app.py`` in the exported folder; return its address."""
    with Server(space, space.parent) as server:
        yield server.address
    log = server.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def browser_page(address: str) -> Iterator[Page]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        allowed = ["camera", "clipboard-read", "clipboard-write"]
        yield browser.new_context(viewport={"width": 1400, "height": 900}, permissions=allowed).new_page()
        browser.close()


@pytest.fixture
def page(browser_page: Page, address: str) -> Page:
    """Open the page in a real browser."""
    browser_page.goto(address)
    browser_page.wait_for_selector("#examples img")
    browser_page.get_by_text("Example. Drop your own").wait_for()
    return browser_page


# API


def test_a_list_longer_than_the_api_takes_is_refused_at_once(address: str) -> None:
    started = time.monotonic()
    for values in ([0] * 480_000, [[0]] * 200_000, {str(number): 0 for number in range(60_000)}):
        reply = httpx.post(f"{address}/gradio_api/call/classify", json={"data": [values, 3]}, timeout=30)
        assert (reply.status_code, reply.text) == (400, "The request has more than 2,000 values.")
    assert time.monotonic() - started < 5


def test_a_proxy_may_keep_or_remove_the_prefix(space: Path, tmp_path: Path) -> None:
    with Server(space, tmp_path, GRADIO_ROOT_PATH="/demo") as server:
        for path in ("/", "/config", "/demo", "/demo/", "/demo/config", "/demo/gradio_api/info"):
            assert httpx.get(server.address + path, follow_redirects=True).status_code == 200, path
        for path in ("/demo/gradio_api/proxy=a", "/demonstration", "/other/config"):
            assert httpx.get(server.address + path).status_code == 404, path


@pytest.mark.parametrize("damage", ["cut weights", "evaluation", "metadata", "no bundle", "no card"])
def test_a_damaged_bundle_ends_the_program_in_one_line(damage: str, space: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    shutil.copytree(space, folder)
    bundle = folder / "bundle"
    if damage == "no bundle":
        shutil.rmtree(bundle)
    elif damage == "no card":
        (folder / "README.md").unlink()
    else:
        names = {"cut weights": "weights.safetensors", "evaluation": "evaluation.safetensors", "metadata": METADATA}
        file = bundle / names[damage]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    ended = subprocess.run([sys.executable, "app.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .*; export it again\n", ended.stderr), ended.stderr


def logits_of(space: Path, file: Path) -> torch.Tensor:
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return read_bundle(space / "bundle").logits(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]


def test_the_api_returns_the_logits_and_the_top_k_classes(client: Client, space: Path) -> None:
    example = space / "bundle" / "examples" / "example_4.png"
    [answer] = client.predict([handle_file(example)], 3, api_name="/classify")
    recipe = read_bundle(space / "bundle").recipe
    logits = logits_of(space, example)
    assert answer["logits"] == pytest.approx(logits.tolist(), abs=1e-5)
    probs = (logits / recipe.temperature).softmax(0)
    expected = [recipe.class_names[label] for label in probs.argsort(descending=True)[:3]]
    assert [entry["class"] for entry in answer["classes"]] == expected
    assert answer["classes"][0]["confidence"] == pytest.approx(float(probs.max()), abs=1e-5)


def test_the_api_explains_a_class_by_layer_and_opacity(client: Client, space: Path) -> None:
    example = handle_file(space / "bundle" / "examples" / "example_4.png")

    def picture(**options: Any) -> np.ndarray:
        (found,) = client.predict([example], api_name="/explain", **options)
        return np.asarray(Image.open(found["image"]).convert("RGB"))

    plain = picture(opacity=0)
    original = np.asarray(Image.open(space / "bundle" / "examples" / "example_4.png").convert("RGB"))
    assert np.array_equal(plain, original.repeat(7, 0).repeat(7, 1))  # bit for bit, since PNG is lossless
    pictures = [picture(class_name="four"), picture(class_name="nine"), picture(layer="features.0"), picture(opacity=1)]
    for index, one in enumerate([plain, *pictures]):
        assert all((one != other).any() for other in pictures[index:]), index


def test_the_api_lists_mistakes_and_the_confusion_matrix(client: Client, space: Path) -> None:
    evaluation = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    names = read_bundle(space / "bundle").recipe.class_names
    matrix = client.predict(api_name="/confusion_matrix")
    assert matrix == {"classes": names, "counts": evaluation.counts.tolist()}
    true, predicted = divmod(int((evaluation.counts - evaluation.counts.diagonal().diag()).argmax()), 10)
    found, pictures = client.predict(
        count=5, true_class=names[true], predicted_class=names[predicted], api_name="/misclassified"
    )
    assert len(found) == len(pictures) == min(5, int(evaluation.counts[true, predicted]))
    assert {(one["true"], one["predicted"]) for one in found} == {(names[true], names[predicted])}
    confidences = [one["confidence"] for one in found]
    assert confidences == sorted(confidences, reverse=True)
    first, again, other = (
        client.predict(count=20, order="at random", seed=seed, api_name="/misclassified")[0] for seed in (1, 1, 2)
    )
    assert first == again != other


INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("/classify", {"top_k": 0}, r"top_k must be a number from 1 to 10\."),
    ("/classify", {"top_k": 1000}, r"top_k must be a number from 1 to 10\."),
    ("/classify", {"top_k": 2.5}, r"top_k must be a whole number from 1 to 10\."),
    ("/explain", {"opacity": -5}, "opacity must be a number from 0 to 1"),
    ("/explain", {"layer": "__class__"}, "layer: choose one of the available options"),
    ("/explain", {"class_name": "unicorn"}, "class_name: choose one of the available options"),
    ("/explain", {"method": "scorecam"}, "method: choose one of the available options"),
    ("/misclassified", {"count": 61}, "must be a number from 1 to 60"),
    ("/misclassified", {"true_class": "unicorn"}, "The true class: choose one of the available options"),
    ("/misclassified", {"order": "at random", "seed": -1}, "The seed must be a number"),
]


@pytest.mark.parametrize(("name", "options", "message"), INVALID, ids=lambda value: str(value)[:40])
def test_invalid_arguments_are_rejected(client: Client, name: str, options: dict[str, Any], message: str) -> None:
    (path,) = write_noise("one.png")
    images = [] if name == "/misclassified" else [[handle_file(path)]]
    with pytest.raises(AppError, match=message):
        client.predict(*images, api_name=name, **options)
    assert len(client.predict([handle_file(path)], 1, api_name="/classify")) == 1


def test_the_api_accepts_at_most_ten_images(client: Client) -> None:
    (path,) = write_noise("one.png")
    assert len(client.predict([handle_file(path)] * 10, 1, api_name="/classify")) == 10
    for count in (0, 11):
        with pytest.raises(AppError, match="images must be a list of 1 to 10 files"):
            client.predict([handle_file(path)] * count, 1, api_name="/classify")


def bad_files() -> dict[str, bytes]:
    (intact,) = write_noise("intact.png")
    Image.new("1", (30_000, 30_000)).save("bomb.png")  # 110 KB, decoded 2.7 GB
    return {
        "empty.png": b"",
        "truncated.png": intact.read_bytes()[:500],
        "text.png": b"no image at all",
        "bomb.png": Path("bomb.png").read_bytes(),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "<img src=x onerror=alert(1)>.png": b"no image either",
    }


def test_unreadable_files_do_not_affect_the_others(client: Client) -> None:
    good, *_ = write_noise("good.png")
    for name, content in bad_files().items():
        Path(name).write_bytes(content)
        answers = client.predict([handle_file(Path(name).absolute()), handle_file(good)], 1, api_name="/classify")
        assert [answer.get("image") for answer in answers] == [2, None], name
        assert answers[1]["error"].startswith("Image 1 cannot be read: expected an intact image"), name
        assert "onerror" not in answers[1]["error"]


def test_a_file_that_is_too_large_is_rejected(client: Client, address: str) -> None:
    Path("huge.png").write_bytes(bytes(100_000_000))
    with pytest.raises(Exception, match=r"(?i)413|size|large"):
        client.predict([handle_file(Path("huge.png").absolute())], 1, api_name="/classify")
    (path,) = write_noise("one.png")
    assert len(client.predict([handle_file(path)], 1, api_name="/classify")) == 1


def test_fifty_concurrent_users_get_correct_results(address: str, space: Path) -> None:
    paths = write_noise(*(f"{number}.png" for number in range(50)))
    # One client each: with several requests at once, a client may close its event stream between two of them
    clients = [Client(address, verbose=False) for _ in paths]
    jobs = [
        client.submit([handle_file(path)], 1, api_name="/classify") for client, path in zip(clients, paths, strict=True)
    ]
    for path, job in zip(paths, jobs, strict=True):
        assert job.result(120)[0]["logits"] == pytest.approx(logits_of(space, path).tolist(), abs=1e-5)


def test_the_model_card_documents_all_endpoints(client: Client, space: Path) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/classify", "/explain", "/misclassified", "/confusion_matrix"}
    assert set(re.findall(r'api_name="(/\w+)"', (space / "README.md").read_text())) == set(named)


# Browser


def answers(page: Page) -> Locator:
    return page.locator(".answer:visible")


def labels(answer: Locator) -> list[str]:
    return answer.locator('label[data-testid="block-label"]:visible').all_inner_texts()


def upload(page: Page, *files: Path | str) -> None:
    page.locator("#uploads input[type=file]").first.set_input_files(list(files))


def opened(page: Page, section: str) -> None:
    """Open a closed section of the controls."""
    page.locator("button.label-wrap", has_text=section).locator("visible=true").click()


def number(page: Page, label: str) -> Locator:
    return page.get_by_label(f"number input for {label}").locator("visible=true")


@needs_browser
def test_uploads_are_classified_explained_and_listed(page: Page) -> None:
    Path("bad.png").write_bytes(b"no image")
    upload(page, *write_noise("a.png", "b.png", "c.png"), "bad.png")
    page.get_by_text("3 images classified.").wait_for()
    assert answers(page).count() == 3
    assert page.get_by_text("Image 4 cannot be read").is_visible()
    found = labels(answers(page).first)
    assert found[:2] == ["Image 1", "Network input, 32x32"]
    name, confidence = answers(page).first.locator("h2").inner_text().split()
    assert found[2] == f"Evidence for {name}"
    assert answers(page).first.locator(".confidence-set").count() == 5

    page.wait_for_timeout(1000)  # until the page has taken over the settings of the upload
    number(page, "Classes to list for each image").fill("2")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelectorAll('.answer')[0].querySelectorAll('.confidence-set').length == 2")

    page.get_by_text("All results as a table").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["image"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["class_1"], f"{float(rows[0]['probability_1']):.0%}") == (name, confidence)


PASTING = """async () => {
  const canvas = document.createElement("canvas")
  canvas.width = canvas.height = 40
  const blob = await new Promise(done => canvas.toBlob(done))
  await navigator.clipboard.write([new ClipboardItem({"image/png": blob})])
}"""


@needs_browser
def test_images_from_camera_and_clipboard_are_classified(page: Page) -> None:
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#uploads video')?.videoWidth > 0")
    page.wait_for_timeout(500)
    page.get_by_label("capture photo").click()
    page.get_by_text("1 image classified.").wait_for()
    page.reload()
    page.wait_for_selector("#examples img")
    page.evaluate(PASTING)
    page.get_by_label("Paste from clipboard").click()
    page.get_by_text("1 image classified.").wait_for()


COUNT_CLASSES = "document.querySelectorAll('.answer')[0].querySelectorAll('.confidence-set').length"
LAYERS = 3  # stages of the exported network


def overlay_of(page: Page) -> str:
    """Return the URL of the first heatmap, which changes with its content."""
    return answers(page).first.locator("img").nth(2).get_attribute("src") or ""


def wait_for_another_overlay(page: Page, before: str) -> str:
    page.wait_for_function(
        "before => [...document.querySelectorAll('.answer')].filter(e => e.offsetParent)[0]"
        ".querySelectorAll('img')[2].src != before",
        arg=before,
    )
    return overlay_of(page)


@needs_browser
def test_clicking_a_class_explains_it(page: Page) -> None:
    upload(page, *write_noise("a.png"))
    page.get_by_text("1 image classified.").wait_for()
    answer = answers(page).first
    second = answer.locator(".confidence-set").nth(1)
    name = second.inner_text().split()[0]
    assert page.get_by_text(f"Evidence for {name}").count() == 0
    second.click()
    page.get_by_text(f"Evidence for {name}").wait_for()
    assert len(labels(answer)) == 5
    answer.locator(".confidence-set").first.click()  # the predicted class again
    page.get_by_text(f"Evidence for {name}").wait_for(state="hidden")
    assert len(labels(answer)) == 4
    with page.expect_download() as download:
        answer.locator('a[data-testid="download-link"]').nth(1).click()
    with Image.open(download.value.path()) as picture:
        assert (picture.format, picture.size) == ("PNG", (224, 224))


@needs_browser
def test_every_heatmap_control_changes_the_heatmaps(page: Page) -> None:
    upload(page, *write_noise("a.png", "b.png"))
    page.get_by_text("2 images classified.").wait_for()
    assert [len(labels(answer)) for answer in answers(page).all()] == [4, 4]
    overlay = overlay_of(page)
    opened(page, "Heatmap settings")
    number(page, "Opacity of the heatmap").fill("1")
    page.keyboard.press("Tab")
    overlay = wait_for_another_overlay(page, overlay)
    page.get_by_label("Layer (name").click()
    page.get_by_role("option").locator("visible=true").last.click()
    overlay = wait_for_another_overlay(page, overlay)
    page.get_by_label("List all layers").click()
    page.wait_for_timeout(300)
    page.get_by_label("Layer (name").click()
    page.get_by_role("option").locator("visible=true").first.wait_for()
    assert page.get_by_role("option").locator("visible=true").count() > LAYERS
    page.get_by_role("option").locator("visible=true").nth(LAYERS // 2).click()
    overlay = wait_for_another_overlay(page, overlay)
    for method in ("LayerCAM", "HiResCAM"):
        page.get_by_role("radio", name=method).locator("visible=true").click()
        overlay = wait_for_another_overlay(page, overlay)
    number(page, "Number of images to explain").fill("1")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "[...document.querySelectorAll('.answer')].filter(e => e.offsetParent)[1].querySelectorAll('img').length == 2"
    )
    page.get_by_label("Show heatmaps", exact=True).click()
    for answer in answers(page).all():
        answer.get_by_text("Evidence for ").locator("visible=true").first.wait_for(state="hidden")
        assert len(labels(answer)) == 3


@needs_browser
def test_a_wide_image_is_cropped_as_in_training(page: Page) -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste(Image.new("RGB", (30, 30), "blue"), (30, 0))
    wide.save("wide.png")
    upload(page, Path("wide.png").absolute())
    page.get_by_text("1 image classified.").wait_for()

    source = answers(page).first.locator("img").nth(1).get_attribute("src")
    assert Image.open(urlopen(str(source))).convert("RGB").getpixel((0, 0))[2] > 240  # type: ignore[index]


@needs_browser
def test_a_flagged_photo_is_explained_and_its_bars_are_gray(browser_page: Page, space: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    shutil.copytree(space, folder)
    file = folder / "bundle" / METADATA
    metadata = json.loads(file.read_text())
    metadata["unknown"] |= {"score": "energy", "threshold": 1e9, "false_alarms": 0.042, "flag_images": True}
    file.write_text(json.dumps(metadata))
    with Server(folder, tmp_path) as server:
        browser_page.goto(server.address)
        browser_page.get_by_text("Example. Drop your own").wait_for()
        upload(browser_page, PHOTO)
        browser_page.get_by_text("1 image classified.").wait_for()
        answer = answers(browser_page).first
        note = answer.locator(".ood").inner_text()
        assert note.startswith(
            "This may be none of the classes. About 4% of the test images, which all belong to a class,"
        )
        assert "only compares the classes with each other" in note
        bars = answer.locator(".confidence-set .bar")
        assert bars.first.evaluate("e => getComputedStyle(e).filter") == "grayscale(1)"
        weight = "e => getComputedStyle(e).fontWeight"
        assert int(answer.locator("h2").evaluate(weight)) < 700
        browser_page.goto("about:blank")


@needs_browser
def test_an_eleventh_image_is_reported(page: Page) -> None:
    upload(page, *write_noise(*(f"{number}.png" for number in range(11))))
    page.get_by_text("10 images classified.").wait_for()
    assert page.get_by_text("Only the first 10 of 11 images are classified.").is_visible()


@needs_browser
def test_an_example_is_classified_on_opening(page: Page, space: Path) -> None:
    bundle = read_bundle(space / "bundle")
    logits = logits_of(space, space / "bundle" / "examples" / "example_0.png")
    confidence = float((logits / bundle.recipe.temperature).softmax(0).max())
    headline = f"{bundle.recipe.class_names[int(logits.argmax())]} {confidence:.0%}"
    assert answers(page).first.locator("h2").inner_text() == headline
    assert answers(page).count() == 1
    assert page.get_by_role("button", name="Classify", exact=True).count() == 0  # only the tab
    words = page.locator('#uploads [data-testid="upload-text"]')
    assert "Drop up to 10 images" in words.evaluate("e => getComputedStyle(e, '::after').content")


@needs_browser
def test_an_example_shows_its_settings_and_the_visitors_return_with_the_next_upload(page: Page, space: Path) -> None:
    examples = json.loads((space / "bundle" / "metadata.json").read_text())["examples"]
    assert len(examples) == 10
    opened(page, "Heatmap settings")
    top, opacity, many = "Classes to list for each image", "Opacity of the heatmap", "Number of images to explain"
    for label, value in ((top, "9"), (opacity, "0.95"), (many, "1")):
        number(page, label).fill(value)
        page.keyboard.press("Tab")
    page.wait_for_function(f"{COUNT_CLASSES} == 9")
    for index in (4, 8):
        page.locator("#examples button").nth(index).click()
        page.wait_for_function(f"count => {COUNT_CLASSES} == count", arg=examples[index]["classes"])
        assert float(number(page, opacity).input_value()) == examples[index]["opacity"]
        assert number(page, top).input_value() == str(examples[index]["classes"])
        assert page.get_by_label("Layer (name").input_value().startswith(examples[index]["layer"])
        assert answers(page).count() == 1
    number(page, top).fill("7")  # a change made while an example is shown holds
    page.keyboard.press("Tab")
    page.wait_for_function(f"{COUNT_CLASSES} == 7")
    upload(page, *write_noise("a.png", "b.png"))
    page.get_by_text("2 images classified.").wait_for()
    assert [number(page, label).input_value() for label in (top, opacity, many)] == ["7", "0.95", "1"]
    assert [len(labels(answer)) for answer in answers(page).all()] == [4, 3]
    page.locator("#examples button").nth(0).click()
    page.get_by_text("Example with its own settings").wait_for()
    page.locator('#uploads [data-testid="upload-text"]').wait_for()  # the drop zone is back


FIRST_TILE = "document.querySelectorAll('.tiles .thumbnail-item img')[0]"


def tiles(page: Page) -> Locator:
    return page.locator(".tiles:visible .thumbnail-item")


def wait_for_tiles(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => [...document.querySelectorAll('.tiles .thumbnail-item')].filter(e => e.offsetParent).length == count",
        arg=count,
    )


def choose(page: Page, dropdown: str, option: str) -> None:
    page.get_by_role("combobox", name=dropdown, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).locator("visible=true").click()
    page.wait_for_function("document.querySelectorAll('[role=option]').length == 0")


@needs_browser
def test_every_control_selects_mistakes_and_a_click_classifies_one(page: Page, space: Path) -> None:
    evaluation = EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    recipe = read_bundle(space / "bundle").recipe
    page.get_by_role("tab", name="Misclassified").click()
    page.get_by_text(f"12 of {evaluation.errors} mistakes").wait_for()
    wait_for_tiles(page, 12)
    wrong = evaluation.predictions != evaluation.labels
    confidence = evaluation.confidences(recipe.temperature)
    worst, best = int((confidence * wrong).argmax()), int((confidence + 2 * ~wrong).argmin())

    def position(image: int) -> str:
        return f"· #{int(evaluation.indices[image])}" + " · label may be wrong" * bool(evaluation.label_issue[image])

    assert tiles(page).first.inner_text().endswith(f"{float(confidence[worst]):.1%} {position(worst)}")

    opened(page, "Heatmaps and similar training images")
    page.get_by_label("Show the most similar training images").check()
    page.wait_for_function(f"{FIRST_TILE}.naturalWidth > 400")
    page.get_by_label("Show the most similar training images").uncheck()
    page.wait_for_function(f"{FIRST_TILE}.naturalWidth < 300")

    opened(page, "Filter and sort")
    assert page.get_by_label("Random seed").locator("visible=true").count() == 0
    choose(page, "Order", "least confident first")
    page.get_by_text(re.compile(f"{position(best)}$")).locator("visible=true").first.wait_for()
    assert tiles(page).first.inner_text().endswith(position(best))

    def other_captions(before: list[str]) -> list[str]:
        page.wait_for_function(
            "before => [...document.querySelectorAll('.tiles .thumbnail-item')].filter(e => e.offsetParent)"
            ".map(e => e.innerText.trim()).join() != before.join()",
            arg=before,
        )
        return [text.strip() for text in tiles(page).all_inner_texts()]

    def seed(value: str) -> None:
        page.get_by_label("Random seed").fill(value)
        page.keyboard.press("Tab")

    before = [text.strip() for text in tiles(page).all_inner_texts()]
    choose(page, "Order", "at random")
    with_0 = other_captions(before)
    seed("7")
    with_7 = other_captions(with_0)
    seed("3")
    with_3 = other_captions(with_7)
    seed("7")
    assert other_captions(with_3) == with_7

    number(page, "Number of images").fill("3")
    page.keyboard.press("Tab")
    wait_for_tiles(page, 3)
    true, predicted = divmod(int((evaluation.counts - evaluation.counts.diagonal().diag()).argmax()), 10)
    names = recipe.class_names
    choose(page, "True class", names[true])
    page.get_by_text(
        re.compile(f"^3 of {int(evaluation.counts[true].sum() - evaluation.counts[true, true])} ")
    ).wait_for()
    choose(page, "Predicted class", names[predicted])
    page.get_by_text(re.compile(f"of {int(evaluation.counts[true, predicted])} ")).locator("visible=true").wait_for()
    assert all(text.startswith(f"{names[true]} → {names[predicted]}") for text in tiles(page).all_inner_texts())

    page.get_by_label("Show the evidence for the predicted").click()
    page.wait_for_function(f"{FIRST_TILE}.naturalWidth > 600")
    page.set_viewport_size({"width": 390, "height": 900})
    expect(page.locator(".comparisons")).to_be_visible()
    rendered = page.evaluate(
        f"(({{width, height, naturalWidth, naturalHeight}}) => width > 300 && width <= 390"
        f" && Math.abs(width / height - naturalWidth / naturalHeight) < 0.02)({FIRST_TILE})"
    )
    assert rendered  # all of it
    page.set_viewport_size({"width": 1400, "height": 900})
    for change in ("layer", "method", "opacity"):
        before = tiles(page).first.locator("img").get_attribute("src")
        if change == "layer":
            page.get_by_label("Layer (name").locator("visible=true").click()
            page.get_by_role("option").locator("visible=true").last.click()
        elif change == "method":
            page.get_by_role("radio", name="LayerCAM").locator("visible=true").click()
        else:
            number(page, "Opacity of the heatmap").fill("0.9")
            page.keyboard.press("Tab")
        page.wait_for_function(f"b => {FIRST_TILE}.src != b", arg=before)

    tiles(page).first.click()
    page.get_by_text(f"true class: {names[true]}").wait_for()
    assert labels(answers(page).first)[2] == f"Evidence for {names[predicted]}"
    page.get_by_role("tab", name="Misclassified").click()
    page.get_by_label("Show misclassified images").click()
    wait_for_tiles(page, 0)
    expect(number(page, "Number of images")).to_be_disabled()


@needs_browser
def test_clicking_a_cell_of_the_matrix_shows_its_images(page: Page, space: Path) -> None:
    counts = EvaluationResult.load(space / "bundle" / "evaluation.safetensors").counts
    names = read_bundle(space / "bundle").recipe.class_names
    page.get_by_role("tab", name="Confusion matrix").click()
    picture = page.locator("#matrix img")
    layout = matrix_layout(names)
    most_frequent = int(counts.diagonal().argmax())
    worst = divmod(int((counts - counts.diagonal().diag()).argmax()), 10)
    for true, predicted in ((most_frequent, most_frequent), worst):
        page.wait_for_function("document.querySelector('#matrix img')?.naturalWidth > 0")  # loaded
        box = picture.bounding_box()
        assert box is not None
        scale = box["width"] / picture.evaluate("image => image.naturalWidth")
        x, y = (
            (layout.left + (predicted + 0.5) * layout.cell) * scale,
            (layout.top + (true + 0.5) * layout.cell) * scale,
        )
        before = picture.get_attribute("src")
        picture.click(position={"x": x, "y": y})
        page.wait_for_function("before => document.querySelector('#matrix img').src != before", arg=before)  # outlined
        page.get_by_text(re.compile(rf"^{counts[true, predicted]} images? in this cell")).locator(
            "visible=true"
        ).wait_for()
        expect(page.get_by_label("True class (row)")).to_have_value(names[true])
        expect(page.get_by_label("Predicted class (column)")).to_have_value(names[predicted])
        caption = names[true] if true == predicted else f"{names[true]} → {names[predicted]}"
        expect(tiles(page).first).to_have_text(re.compile(rf"\s*{caption}\b"))

    choose(page, "True class (row)", names[most_frequent])
    choose(page, "Predicted class (column)", names[most_frequent])
    page.get_by_text(re.compile(rf"^{counts[most_frequent, most_frequent]} images?")).locator("visible=true").wait_for()
    before = picture.get_attribute("src")
    page.get_by_role("radio", name="% of the true class").click()
    page.wait_for_function("before => document.querySelector('#matrix img').src != before", arg=before)
    tiles(page).first.click()
    page.get_by_text(re.compile(r"^Image #\d+ of the test images")).wait_for()
    assert labels(answers(page).first)[2] == f"Evidence for {names[most_frequent]}"


@needs_browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 1400), ("light", 390), ("dark", 390)])
def test_every_tab_opens_without_an_error_and_fits_the_window(
    browser_page: Page, address: str, theme: str, width: int
) -> None:
    page = browser_page.context.new_page()  # an open page would report that its connections end
    problems, requests = list[str](), list[str]()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/?__theme={theme}")
    page.wait_for_selector("#examples img")
    contents = set()
    for tab, text in (
        ("Misclassified", "Number of images"),
        ("Confusion matrix", "True class (row)"),
        ("Training", "Calibration"),
        ("About", "Limits"),
        ("Classify", "Examples"),
    ):
        open_tab(page, tab)
        page.get_by_text(text).locator("visible=true").first.wait_for()
        if tab == "Training":  # three charts and two diagrams, drawn on demand
            page.wait_for_function(
                "[...document.querySelectorAll('.tabitem img')].filter(e => e.offsetParent && e.naturalWidth > 300)"
                ".length == 5"
            )
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        if tab == "About" and width == 1400:  # about one screen, with any font
            assert page.evaluate("document.documentElement.scrollHeight") <= 1000
        contents.add(page.locator("#heading").evaluate("e => e.getBoundingClientRect().left"))
        assert page.evaluate(LOWEST_CONTRAST) >= 4.5, tab
    assert len(contents) == 1  # no tab shifts the page
    assert not problems
    assert not [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    page.close()
