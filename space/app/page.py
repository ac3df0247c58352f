"""The page: tabs to classify images, to browse the mistakes, and to see how the network was trained and judged."""

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from callbacks.rendering.markdown import escape
from space.app.api import Api
from space.app.bundle_metadata import REPORT_MARKER
from space.app.decoder import DECODER
from space.app.loaded_bundle import LoadedBundle
from space.app.middleware import Gate, Page
from space.app.style import CSS, theme
from space.app.tabs.classify import ClassifyTab
from space.app.tabs.confusion import ConfusionTab
from space.app.tabs.misclassified import MisclassifiedTab
from space.app.tabs.training import build_training_tab
from space.app.validation import MOST_BYTES

_QUEUE = 256  # events of all visitors that may wait; an answer takes some 50 ms on two cores
_SESSIONS = 400  # visitors whose answers are kept, of 2 MB at most for small images; the oldest is forgotten first


def build(shown: LoadedBundle) -> gr.Blocks:
    """The page."""
    title = shown.facts.title
    with Page(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        Api(shown)  # first, since other events would take its names
        gr.Markdown(_heading(shown), elem_id="heading")
        with gr.Tabs() as tabs:
            with gr.Tab("Classify", id="classify"):
                classify = ClassifyTab(shown)
            with gr.Tab("Misclassified", id="misclassified"):
                MisclassifiedTab(shown, tabs, classify)
            with gr.Tab("Confusion matrix", id="confusion"):
                ConfusionTab(shown, tabs, classify)
            with gr.Tab("Training", id="training") as training:
                build_training_tab(shown, training)
            with gr.Tab("About", id="about"):
                gr.Markdown(shown.about, elem_id="about")
    return page


def serve(folder: Path, trusted: Sequence[str] = (), **options: Any) -> None:
    """Opens the page of an exported Space.

    Args:
        folder: The Space's; its ``README.md`` is the model card, its ``bundle`` the classifier.
        trusted: See ``cifar_lit.inference.bundle.read_bundle``.
        **options: See gradio's ``Blocks.launch``.
    """
    front, _, about = (folder / "README.md").read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    # What would open what is closed here, and how much gradio remembers of requests, for a page that is closed here
    os.environ.pop("GRADIO_ALLOWED_PATHS", None)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"
    tools = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
    DECODER.start()
    page = build(LoadedBundle.load(folder / "bundle", (about or front).partition(REPORT_MARKER)[0], trusted))
    page.queue(max_size=_QUEUE, default_concurrency_limit=1, api_open=False)
    settings: dict[str, Any] = {
        "theme": theme(),
        "css": CSS,
        "ssr_mode": False,
        "show_error": False,
        "max_file_size": MOST_BYTES,
        "state_session_capacity": _SESSIONS,
        "share": False,
        "allowed_paths": [],
        "strict_cors": True,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "mcp_server": tools,
        "app_kwargs": {"middleware": [Middleware(Gate, tools=tools)]},
    }
    gc.freeze()  # what is there now stays
    gc.enable()
    page.launch(**settings | options)


def _heading(shown: LoadedBundle) -> str:
    judged = shown.judged
    names = shown.network.class_names
    classes = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])} and {len(names) - 10} more classes"
    told = "" if judged is None else f" · **{judged.accuracy:.2%}** of {judged.images:,} {judged.split} images right"
    return f"# {escape(shown.facts.title)}\n{escape(classes)}{told}"
