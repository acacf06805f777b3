"""Pictures that are kept in git, in as few bytes as their pixels need."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from learn2add.checkpoints import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_packed(figure: "Figure", file: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    from learn2add.figures.images import png_of  # Executing notebooks need not wait for it.

    write_atomically(file, packed(png_of(figure)))


def packed(png: bytes) -> bytes:
    """Return the same pixels as a PNG of fewer bytes, if there is one.

    Figures come with a channel of opacity that says nothing, an eighth of their bytes; and where
    all is grey one channel says what three do, which is half of the rest.
    """
    with Image.open(io.BytesIO(png)) as image:
        if getattr(image, "is_animated", False):
            return png
        if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
            image = image.convert("RGB")
        if image.mode == "RGB" and is_grey(image):
            image = image.getchannel("R")
        content = io.BytesIO()
        image.save(content, "PNG", optimize=True)
    return min(png, content.getvalue(), key=len)


def is_grey(image: Image.Image) -> bool:
    """Whether red, green and blue are the same everywhere."""
    red, green, blue = image.split()
    return not any(ImageChops.difference(red, other).getbbox() for other in (green, blue))
