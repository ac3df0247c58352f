"""The ``demo`` and ``export`` commands: write a checkpoint as a self-contained Hugging Face Space."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from callbacks.rendering.class_activation_maps import Method
from cifar_lit.errors import InputError
from cifar_lit.training.checkpointing.checkpoint_files import find_checkpoint
from space.export.hub import check_push
from space.export.hub import push as push_to_hub
from space.export.space_folder import write_space


def demo(
    ckpt_path: str = "best",
    output: str | None = None,
    images: str | None = None,
    browser: bool = True,
    review: str | None = None,
) -> None:
    """Write a Space and open it.

    Args:
        ckpt_path: A checkpoint file, or ``best`` or ``last`` for the newest such file in runs.
        output: The folder to write; by default ``space`` in the run's folder, or in the current folder without one.
        images: Images to evaluate on, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
        browser: Whether to open the page in a browser.
        review: CSV file with images to review in a tab, of an audit, a report or a run, or a folder of such files.
    """
    run = find_checkpoint(ckpt_path, "runs/*/*")
    if review and not Path(review).exists():
        raise InputError(f"--review: no such file or folder: {review}")
    folder = Path(output or (run.folder / "space" if run.in_run_folder else f"{run.file.stem}_space"))
    print(f"Exporting {run.file} to {folder}, which may take a minute", flush=True)
    write_space(str(run.file), folder, images)
    if review:
        from space.review import serve_review  # imports gradio

        return serve_review(str(run.file), folder, Path(review), inbrowser=browser)
    command = [sys.executable, "app.py", *["--browser"] * browser]
    if threading.current_thread() is threading.main_thread():  # SIGTERM ends the page, too
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with suppress(KeyboardInterrupt):  # the usual way to close the page
        if subprocess.run(command, cwd=folder, check=False).returncode:
            raise InputError(f"the page in {folder} failed; see the error above")


def export(
    output: str,
    ckpt_path: str = "best",
    images: str | None = None,
    title: str | None = None,
    mistakes: int = 1000,
    neighbors: int = 10_000,
    layer: str | None = None,
    method: Method | None = None,
    flag_unknown: bool | None = None,
    push: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """Export a trained classifier as a web page: a folder that runs anywhere, also as a Hugging Face Space.

    Args:
        output: The folder to write. An earlier export in it is replaced.
        ckpt_path: A checkpoint file, or ``best`` or ``last`` for the newest such file in runs.
        images: Images to evaluate on, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
        title: Title of the page; by default the run's name.
        mistakes: Maximum number of misclassified images to include, the most confident first.
        neighbors: Number of training images to search for those most similar to the mistakes; 0 to show none.
        layer: Layer that the page's heatmaps show first; by default, the one with the most faithful heatmaps.
        method: Heatmap method selected first: gradcam, gradcam++, hirescam, layercam, or for a vision transformer
            attention_rollout; by default, the most faithful.
        flag_unknown: Whether the page flags images that may be none of the classes; by default, if that is reliable.
        push: Upload the folder to this Space, ``user/name``, after listing the files and asking for confirmation.
        dry_run: With ``push``, only list what would be uploaded.
        yes: With ``push``, upload without asking.
    """
    if mistakes < 0 or neighbors < 0:
        raise InputError(f"mistakes and neighbors must be at least 0, got {mistakes} and {neighbors}")
    if push is not None:
        check_push(push, dry_run)
    folder = Path(output)
    files = write_space(ckpt_path, folder, images, title, mistakes, neighbors, layer, method, flag_unknown)
    print(f"Open it with {'uv run python' if 'UV' in os.environ else 'python'} {folder / 'app.py'}")
    if push is not None:
        print(push_to_hub(folder, files, push, dry_run, yes))
