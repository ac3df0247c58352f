"""Pictures as files that the page serves."""

import hashlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image


def cached_image(picture: np.ndarray) -> str:
    """The path of a PNG file that holds the picture, where gradio serves files from.

    gradio would write the file anew whenever anyone is shown the same picture, also while it is being sent to someone
    else, who then gets a broken one. This file appears whole, once.

    Args:
        picture: uint8 (H, W, 3).
    """
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", compress_level=1)
    file = Path(get_upload_folder()) / hashlib.sha256(content.getbuffer()).hexdigest() / "image.png"
    try:
        os.utime(file)  # the oldest files are deleted first
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as unfinished:
            unfinished.write(content.getbuffer())
        os.chmod(unfinished.name, 0o644)
        os.replace(unfinished.name, file)
    return str(file)
