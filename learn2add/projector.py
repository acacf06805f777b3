"""Codes for TensorBoard's projector.

``SummaryWriter.add_embedding`` fails where TensorFlow is installed, on Colab for example (PyTorch
issue 30966). The projector reads four plain files, which are written here instead.
"""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from learn2add.checkpoints import write_atomically

CONFIG = """embeddings {{
  tensor_name: "codes"
  tensor_path: "codes.tsv"
  metadata_path: "digits.tsv"
  sprite {{
    image_path: "pictures.png"
    single_image_dim: {size}
    single_image_dim: {size}
  }}
}}
"""


def write_projector(folder: str | Path, z: Tensor, labels: Tensor, images: Tensor) -> Path:
    """Write codes, digits and pictures where ``tensorboard --logdir`` finds them.

    Args:
        folder: Made if it is not there; the four files in it are replaced.
        z: Codes, float ``[N, C]``.
        labels: Digits ``[N]``.
        images: Pictures uint8 ``[N, S, S]``.

    Returns:
        The configuration file, ``projector_config.pbtxt``.

    Raises:
        ValueError: The lengths differ, there are none, or the pictures are not uint8.
        OSError: The folder cannot be written.
    """
    if not 0 < len(z) == len(labels) == len(images):
        raise ValueError(
            f"z, labels and images have lengths {len(z)}, {len(labels)} and {len(images)}; "
            "allowed is one length above 0"
        )
    pictures = images.cpu().numpy()
    if pictures.dtype != np.uint8 or pictures.ndim != 3:
        raise ValueError(
            f"images is {images.dtype} of shape {list(images.shape)}; allowed is uint8 [N, S, S]"
        )
    folder, size = Path(folder), pictures.shape[-1]
    rows = ("\t".join(f"{value:.6g}" for value in code) for code in z.tolist())
    digits = (str(label) for label in labels.tolist())
    ok, sprite = cv2.imencode(".png", mosaic(pictures))
    if not ok:
        raise OSError(f"{folder}: the pictures could not be packed as PNG")
    write_atomically(folder / "codes.tsv", "\n".join(rows) + "\n")
    write_atomically(folder / "digits.tsv", "\n".join(digits) + "\n")
    write_atomically(folder / "pictures.png", sprite.tobytes())
    write_atomically(folder / "projector_config.pbtxt", CONFIG.format(size=size))
    return folder / "projector_config.pbtxt"


def mosaic(pictures: np.ndarray) -> np.ndarray:
    """Pictures ``[N, S, S]`` row by row on the smallest square sheet that holds them all."""
    count, size, _ = pictures.shape
    side = int(np.ceil(np.sqrt(count)))
    sheet = np.zeros((side * side, size, size), pictures.dtype)
    sheet[:count] = pictures
    return sheet.reshape(side, side, size, size).swapaxes(1, 2).reshape(side * size, side * size)
