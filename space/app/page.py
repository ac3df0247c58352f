"""The page: tabs to classify images, to browse mistakes, and to show the training run and its evaluation."""

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from callbacks.rendering.markdown import escape
from cifar_lit.errors import InputError
from space.app.api import Api
from space.app.bundle_metadata import REPORT_FILES, SPLIT_NAMES
from space.app.decoder import DECODER
from space.app.loaded_bundle import LoadedBundle
from space.app.request_allowlist import AllowlistMiddleware, Page
from space.app.style import CSS, theme
from space.app.tabs.classify import ClassifyTab
from space.app.tabs.confusion import ConfusionTab
from space.app.tabs.misclassified import MisclassifiedTab
from space.app.tabs.training import build_training_tab
from space.app.validation import MAX_FILE_SIZE

_MAX_QUEUE = 256  # waiting events of all visitors; each takes about 50 ms on two cores
_MAX_SESSIONS = 400  # visitors whose results are kept, up to 2 MB each for small images; the oldest is dropped first


def build(loaded: LoadedBundle, add_tab: Callable[[gr.Blocks], None] | None = None) -> gr.Blocks:
    """Return the page.

    Args:
        loaded: The bundle.
        add_tab: Adds a further tab.
    """
    with Page(title=loaded.metadata.title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        Api(loaded)  # first, since other events would take its names
        gr.Markdown(_heading(loaded), elem_id="heading")
        with gr.Tabs() as tabs:
            with gr.Tab("Classify", id="classify"):
                classify = ClassifyTab(loaded, page)
            with gr.Tab("Misclassified", id="misclassified"):
                MisclassifiedTab(loaded, tabs, classify)
            with gr.Tab("Confusion matrix", id="confusion"):
                ConfusionTab(loaded, tabs, classify)
            with gr.Tab("Training", id="training") as training:
                build_training_tab(loaded, training)
            if loaded.report:
                with gr.Tab("Report", id="report"):
                    gr.Markdown(loaded.report, elem_classes="document", header_links=True)
            if add_tab is not None:
                add_tab(page)
            with gr.Tab("About", id="about"):
                gr.Markdown(loaded.about, elem_classes="document")
    return page


def serve(
    folder: Path, trusted: Sequence[str] = (), add_tab: Callable[[gr.Blocks], None] | None = None, **options: Any
) -> None:
    """Serve the page of an exported Space.

    Args:
        folder: The Space's folder; its ``README.md`` is the model card, its ``bundle`` the classifier.
        trusted: See ``cifar_lit.inference.bundle.read_bundle``.
        add_tab: Adds a further tab.
        **options: See gradio's ``Blocks.launch``.

    Raises:
        InputError: if the Space is incomplete or damaged.
    """
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'README.md'} cannot be read ({error}); export it again") from error
    front, _, about = card.removeprefix("---\n").partition("\n---\n")
    os.environ.pop("GRADIO_ALLOWED_PATHS", None)  # would serve further files
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"  # limits how many requests gradio remembers
    mcp = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
    DECODER.start()
    page = build(LoadedBundle.load(folder / "bundle", about or front, trusted), add_tab)
    page.queue(max_size=_MAX_QUEUE, default_concurrency_limit=1, api_open=False)
    settings: dict[str, Any] = {
        "theme": theme(),
        "css": CSS,
        "ssr_mode": False,
        "show_error": False,
        "max_file_size": MAX_FILE_SIZE,
        "state_session_capacity": _MAX_SESSIONS,
        "share": False,
        "allowed_paths": [str(folder.resolve() / REPORT_FILES)],
        "strict_cors": True,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "mcp_server": mcp,
        "app_kwargs": {"middleware": [Middleware(AllowlistMiddleware, mcp=mcp)]},
    }
    gc.freeze()  # everything loaded so far is permanent
    gc.enable()
    _, url, _ = page.launch(**settings | options, quiet=True, prevent_thread_lock=True)
    print(f"The page is at {url} (Ctrl-C stops it)", flush=True)
    try:
        page.block_thread()
    finally:
        gc.unfreeze()  # or the libraries that count their objects report them as leaked


def _heading(loaded: LoadedBundle) -> str:
    names, evaluation = loaded.network.class_names, loaded.evaluation
    classes = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])} and {len(names) - 10} more classes"
    heading = f"# {escape(loaded.metadata.title)}\n{escape(classes)}"
    if evaluation is None:
        return heading
    images = f"{evaluation.images:,} {SPLIT_NAMES[evaluation.split]} images"
    return f"{heading} · **{evaluation.accuracy:.2%}** accuracy on {images}"
