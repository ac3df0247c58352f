"""The review tab of the local demo, in a real browser, and the decisions it writes."""

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError
from space.review import ReviewItem, read_items, serve_review
from tests.support.browser import BROWSER, needs_browser
from tests.support.program import ROOT


@pytest.fixture
def review_page(space: Path) -> Iterator[Page]:
    """Open ``demo --review`` for three training images and a test image."""
    run = next((space.parent / "runs" / "quickstart").iterdir())
    (run / "decisions.csv").unlink(missing_ok=True)
    rows = "train,5,nine,suspicious\ntrain,7,,near duplicate\ntrain,7,,again\ntest,2,,mistake\nother,1,,\n"
    Path("listed.csv").write_text("split,index,suggested,issue\n" + rows)
    command = [sys.executable, ROOT / "main.py", "demo", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    command += ["--output", "shown", "--browser", "false", "--review", "listed.csv"]
    # A background shell starts programs that ignore Ctrl-C
    settings = {} if sys.platform == "win32" else {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings) as server:
        assert server.stdout is not None
        printed = ""
        for line in server.stdout:
            printed += line
            if found := re.search(r"http://[\w.:]+", line):
                break
        else:
            pytest.fail(printed)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(found[0])
            yield page
            browser.close()
        server.send_signal(signal.SIGINT)  # Ctrl-C
        try:
            printed, _ = server.communicate(timeout=60)
        finally:
            server.kill()
        assert (server.returncode, len(printed.splitlines()) <= 1) == (0, True), printed


def decisions(space: Path) -> list[dict[str, str]]:
    [file] = (space.parent / "runs" / "quickstart").glob("*/decisions.csv")
    with file.open() as opened:
        return list(csv.DictReader(opened))


@needs_browser
def test_images_are_kept_relabeled_and_dropped_with_keys(review_page: Page, space: Path) -> None:
    page, names = review_page, Digits().class_names
    page.get_by_role("tab", name="Review").click()
    text = page.locator("#review-text")
    expect(text).to_contain_text("1 of 3 · train #5", timeout=20_000)
    expect(text).to_contain_text("suspicious perhaps nine")
    page.get_by_label("New class").click()
    page.get_by_role("option", name="eight").click()
    page.get_by_label("New class").click()
    page.get_by_role("option", name="nine").click()  # the suggestion again; the key works at once
    page.keyboard.press("r")
    expect(text).to_contain_text("2 of 3 · train #7")
    page.keyboard.press("d")
    expect(text).to_contain_text("3 of 3 · test #2")
    page.reload()
    page.get_by_role("tab", name="Review").click()
    expect(text).to_contain_text("3 of 3 · test #2", timeout=20_000)
    page.keyboard.press("b")
    expect(text).to_contain_text("2 of 3")
    page.locator("#review-keep").click()
    expect(text).to_contain_text("3 of 3")
    page.keyboard.press("d")
    expect(text).to_contain_text("3 images reviewed.")
    found = [(row["split"], row["index"], row["decision"], row["label"]) for row in decisions(space)]
    assert found == [("train", "5", "relabel", "nine"), ("train", "7", "keep", ""), ("test", "2", "drop", "")]
    data = Digits(decisions=str(next((space.parent / "runs" / "quickstart").glob("*/decisions.csv"))))
    assert data.train_set.images.labels[5] == names.index("nine")


def test_each_image_is_listed_once_with_its_reason() -> None:
    data = Digits()
    images = {"train": data.train_set.images, "val": data.train_set.images}
    Path("misclassified.csv").write_text("step,index,file,true,predicted\n9,3,,two,seven\n9,99999,,two,one\n")
    Path("label_errors.csv").write_text("split,index,file,label,suggested\ntrain,4,,one,two\nval,3,,two,four\n")
    Path("table.csv").write_text("class,images\none,3\n")
    items = read_items(sorted(Path().glob("*.csv")), images, data.class_names)
    label = data.class_names[int(data.train_set.images.labels[3])]
    assert ReviewItem("val", 3, "", label, "four", "perhaps four") in items
    assert [(item.split, item.row) for item in items] == [("train", 4), ("val", 3)]


def test_a_file_that_cannot_be_read_or_lists_no_images_is_refused(space: Path) -> None:
    checkpoint = next((space.parent / "runs" / "quickstart").glob("*/checkpoints/last.ckpt"))
    with pytest.raises(InputError, match=r"--review: none\.csv cannot be read as CSV"):
        serve_review(str(checkpoint), space, Path("none.csv"))
    Path("empty.csv").write_text("split,index\n")
    with pytest.raises(InputError, match=r"--review: empty\.csv lists no images of the run's data"):
        serve_review(str(checkpoint), space, Path("empty.csv"))
