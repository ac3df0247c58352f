"""The page's CSS and theme."""

from gradio.themes import Base, Soft, sizes

# Selectors of gradio's own elements hold for the pinned version
CSS = """
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
#heading h1 { margin-bottom: 0.1em; }
.status { padding: 4px 2px; }
.faint { opacity: 0.75; font-size: 90%; }
.pixels img { image-rendering: pixelated; }

/* Labels above images, not on them */
.block:has(> label[data-testid="block-label"]) { display: flex; flex-direction: column; }
label[data-testid="block-label"] {
  position: static; display: block; width: auto; margin: 6px 8px 2px; padding: 0; border: none;
  background: none; color: var(--body-text-color-subdued);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 100%;
}
label[data-testid="block-label"] > span { display: none; }
.block:has(> label[data-testid="block-label"]) > .image-container { flex: 1; min-height: 0; }
.answer .row > .block { flex-basis: 0; }
.answer .image-container, .answer label[data-testid="block-label"] {
  align-self: stretch; min-width: 0; max-width: 100%;
}
.answer label[data-testid="block-label"] { font-size: 85%; margin: 4px 2px 2px; }

/* Upload sources (files, camera, clipboard) below the upload */
#uploads { display: flex; flex-direction: column; }
#uploads .upload-wrapper { display: flex; flex-direction: column; flex: 1; min-height: 0; height: auto; }
#uploads .upload-container { flex: 1; min-height: 0; height: auto !important; }
#uploads .source-selection { position: static; }

/* Result of one image */
.answer {
  padding: 10px; margin-bottom: 10px; gap: 4px;
  border: 1px solid var(--border-color-primary); border-radius: 10px; background: var(--block-background-fill);
}
.answer .block { border: none !important; box-shadow: none !important; }
.answer .image-container img { width: 100%; height: 100%; object-fit: contain; object-position: top; }
.answer .ood-warning:empty { display: none; }

/* Tiles: natural height, captions below */
#uploads .grid-wrap, #examples .grid-wrap, .tiles .grid-wrap {
  min-height: 0; max-height: none; overflow: visible; padding-top: 4px;
}
#uploads .grid-container, #examples .grid-container, .tiles .grid-container {
  grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)); grid-auto-rows: auto; align-content: start;
  height: auto; padding-top: 0;
}
#uploads .thumbnail-item, #examples .thumbnail-item { aspect-ratio: 1; height: auto; }
#examples .thumbnail-item img { width: 100%; height: 100%; }
.tiles .thumbnail-item { display: flex; flex-direction: column; height: auto; aspect-ratio: auto; border: none; }
.tiles .thumbnail-item img { width: 100%; height: auto; }
.tiles .caption-label {
  position: static; max-width: 100%; white-space: normal; padding: 4px 2px; border: none; text-align: left;
  background: none; font-size: 85%;
}
#matrix img { cursor: pointer; }
.metadata { max-height: 640px; overflow: auto; }
.metadata td, .metadata th { padding: 3px 10px !important; }
#about table, .metadata table { display: block; overflow-x: auto; width: fit-content; max-width: 100%; }
#about td, #about th, .metadata td, .metadata th { word-break: normal; overflow-wrap: break-word; }
#about td:first-child, .metadata td:first-child { white-space: nowrap; }

a.download {
  display: inline-block; padding: 6px 14px; margin-top: 8px; border-radius: 8px; text-decoration: none;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color);
  border: 1px solid var(--border-color-primary);
}
@media (max-width: 640px) {
  .tiles .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .gradio-container { padding: 8px !important; }
  .tabitem, #heading { max-width: calc(100vw - 64px); overflow-x: hidden; }
  /* Results before controls */
  .left { display: contents; }
  .answers { order: 1; }
  .controls { order: 2; }
}
"""


def theme() -> Base:
    """Return the page's theme, with system fonts, so that nothing is fetched from other servers."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    soft = Soft(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        radius_size=sizes.radius_md,
        font=fonts,
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return soft.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_color_dark="*body_text_color_subdued",
        block_title_text_weight="500",
        input_background_fill="*neutral_100",
        input_background_fill_dark="*neutral_800",
        checkbox_background_color="white",
        checkbox_border_color="*neutral_300",
        checkbox_label_background_fill="*neutral_100",
        checkbox_label_background_fill_dark="*neutral_800",
        checkbox_label_shadow="none",
    )
