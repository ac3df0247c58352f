"""Images as files that gradio can serve."""

import hashlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image


def cached_image(pixels: np.ndarray) -> str:
    """Return the path of a PNG file with the image, in gradio's upload folder.

    gradio rewrites the file whenever the same image is displayed again, even while it is being sent to someone else,
    who then gets a broken image. This file is written once, atomically.

    Args:
        pixels: uint8 (H, W, 3).
    """
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    file = Path(get_upload_folder()) / hashlib.sha256(content.getbuffer()).hexdigest() / "image.png"
    try:
        os.utime(file)  # the oldest files are deleted first
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            temporary.write(content.getbuffer())
        os.chmod(temporary.name, 0o644)
        os.replace(temporary.name, file)
    return str(file)
