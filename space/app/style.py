"""The page's CSS and theme."""

from pathlib import Path

from gradio.themes import Base, Soft

from space.app.validation import MAX_IMAGES

CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8").replace("$MAX_IMAGES", str(MAX_IMAGES))


def theme() -> Base:
    """Return the page's theme, with system fonts, so that nothing is fetched from other servers."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    soft = Soft(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        font=fonts,
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return soft.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_title_background_fill="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_color_dark="*body_text_color_subdued",
        block_title_text_weight="500",
        input_background_fill="*neutral_100",
        input_background_fill_dark="*neutral_800",
        checkbox_border_color="*neutral_300",
        checkbox_label_background_fill="*neutral_100",
        checkbox_label_background_fill_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_shadow="none",
    )
