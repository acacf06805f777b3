"""A photograph or drawing of one handwritten digit, turned into an image like those of MNIST."""

import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from learn2add.checks import check_choice
from learn2add.data import IMAGE_SIZES

_LARGE = 2048  # a file's longest side need not be larger
_WORKING_SIDE = (112, 512)  # longest side while the ink is looked for: smooth enough, fast enough
_MIN_CONTRAST = 0.04  # of the full range: fainter marks are paper and JPEG artefacts
_MIN_SIGNAL_TO_NOISE = 5.0  # of medians: pure noise reaches 3, noisy digits have 13 and more
_AGREES = 0.06  # difference from the background, of the full range, that is still background
_EDGE = 0.3  # ink that counts when the digit's box is drawn
_THIN, _TYPICAL = 0.07, 0.11  # stroke width over digit size: MNIST's 1 % quantile and its median
_BOX, _FIELD, _CENTRE = 20, 28, 14.0  # MNIST: digit in 20x20, its mass at pixel 14 of 28x28
_ALLOWED = "allowed is an image of one digit, 8x8 pixels or more"


def read_digit(path: str | os.PathLike[str], image_size: int = 28) -> Tensor:
    """Read one digit, dark on light or light on dark, as uint8 ``[image_size, image_size]``.

    The way is MNIST's (LeCun et al. 1998): the image becomes grey; its background, lighting
    included, is taken away; Otsu's threshold finds the ink; the ink's box is scaled to 20 pixels
    and its centre of mass put at the centre of 28. A pen too thin for MNIST is thickened.

    The file is grey, colour or transparent, of 8 or 16 bits, 8x8 or larger; ValueError if it holds
    no image, a blank one, or one where ink and background cannot be told apart.
    """
    check_choice("image_size", image_size, IMAGE_SIZES)
    grey = _read_grey(Path(path))
    ink = _ink(_working_size(grey))
    if ink is None:
        raise ValueError(f"path is {path}, where no digit stands out; {_ALLOWED}")
    if (count := _count(ink > _EDGE)) > 1:
        raise ValueError(f"path is {path}, which shows {count} digits: cut it to one; {_ALLOWED}")
    closer = _ink(_working_size(_closer(grey, ink)))  # a small digit keeps its resolution
    image = _as_mnist(_thick(ink if closer is None else closer))
    if image_size != _FIELD:
        image = cv2.resize(image, (image_size, image_size))
    return torch.from_numpy(image)


def _read_grey(path: Path) -> np.ndarray:
    """Read a file as float32 ``[H, W]`` in [0, 1], transparency laid over a plain background."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of half the size that Pillow refuses
            image = _decoded(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"path is {path}, which does not exist; {_ALLOWED}") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        number = getattr(error, "errno", None)  # else the content is to blame
        came = f"unreadable ({error.strerror})" if number else _kind_of(path)
        raise ValueError(f"path is {path}, {came}; {_ALLOWED}") from None
    if min(image.shape[:2]) < 8:
        came = f"{image.shape[1]}x{image.shape[0]} pixels"
        raise ValueError(f"path is {path}, {came}; {_ALLOWED}")
    image = image.astype(np.float32) / _full_range(image)
    if not np.isfinite(image).all():
        raise ValueError(f"path is {path}, with NaN or infinite values; {_ALLOWED}")
    return image if image.ndim == 2 else _without_alpha(image)


def _decoded(path: Path) -> np.ndarray:
    """Return a file's image as it is to be looked at: grey ``[H, W]``, or ``[H, W, 2]`` with alpha.

    Camera notes on the orientation are obeyed in every format; a large photograph is read smaller.
    """
    with Image.open(path) as image:
        image.draft("L", (_LARGE, _LARGE))  # a JPEG in a fraction of the time
        image = ImageOps.exif_transpose(image)
        if (shrink := max(image.size) // _LARGE) > 1 and image.mode in ("L", "RGB", "RGBA"):
            image = image.reduce(shrink)
        if image.has_transparency_data:
            return np.asarray(image.convert("RGBA").convert("LA"))
        if image.mode.startswith(("I", "F")):  # 16 bits or more
            return np.asarray(image)
        return np.asarray(image.convert("L"))


def _kind_of(path: Path) -> str:
    """Return what a file without a readable image is, and what to do."""
    with open(path, "rb") as file:
        start = file.read(300)
    if start[4:8] == b"ftyp":
        return "an iPhone's HEIC or a film: save it as JPEG"
    if start.startswith(b"%PDF"):
        return "a PDF: save a page as PNG"
    if b"<svg" in start:
        return "an SVG drawing: save it as PNG"
    return "no image, or one of too many pixels"


def _full_range(image: np.ndarray) -> float:
    """Return the value of white: 16-bit files often hold 10 or 12 bits."""
    if image.dtype == np.uint8:
        return 255.0
    if image.dtype.kind in "ui":
        return 2.0 ** max(8, int(image.max()).bit_length()) - 1
    return float(np.nanmax(np.abs(image))) or 1.0


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """Lay ``[H, W, 2]`` over its own background if that is painted, else over a contrast."""
    grey, alpha = image[..., 0], image[..., 1]
    painted = grey[alpha > 0.5]
    if painted.size > grey.size / 2:
        behind = float(np.median(painted))
    else:
        behind = 0.0 if painted.size and painted.mean() > 0.5 else 1.0
    return grey * alpha + behind * (1 - alpha)


def _working_size(grey: np.ndarray) -> np.ndarray:
    """Scale so that the longest side lies within ``_WORKING_SIDE``."""
    side = max(grey.shape)
    scale = np.clip(side, *_WORKING_SIDE) / side
    if scale == 1:
        return grey
    size = tuple(max(8, round(length * scale)) for length in grey.shape[::-1])
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _background(grey: np.ndarray) -> np.ndarray:
    """Return the paper's brightness ``[H, W]``: a quadric through what agrees with the border."""
    scale = min(1.0, 64 / max(grey.shape))
    size = tuple(max(4, round(length * scale)) for length in grey.shape[::-1])
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    terms, values = _quadratic_terms(small.shape), small.reshape(-1)
    surface = _border_surface(terms, values, small.shape)
    use = np.abs(values - terms @ surface) < _AGREES
    for _ in range(5):
        if use.sum() < 20:
            break
        surface = _least_squares(terms[use], values[use], 1.0)
        away = np.abs(values - terms @ surface)
        use = away < 3 * (1.4826 * np.median(away[use]) + 0.005)
    return (_quadratic_terms(grey.shape) @ surface).reshape(grey.shape)


def _border_surface(terms: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fit the border by the simplest of level, plane and quadric that most of it agrees with.
    Least absolute differences and Occam's razor both guard against a digit that touches it.
    """
    rows, columns = (-(-n // 32) for n in shape)
    border = np.ones(shape, bool)
    border[rows:-rows, columns:-columns] = False
    everywhere, seen = terms, (values.min() - _AGREES, values.max() + _AGREES)
    terms, values = terms[border.reshape(-1)], values[border.reshape(-1)]
    best, best_share = np.zeros(6), -1.0
    for count in (1, 3, 6):
        weight = np.ones_like(values)
        for _ in range(20):
            fit = _least_squares(terms[:, :count], values, weight[:, None])
            away = np.abs(values - terms[:, :count] @ fit)
            weight = 1 / np.maximum(away, 1e-3)
        share = (away < _AGREES).mean()
        inside = everywhere[:, :count] @ fit
        if inside.min() < seen[0] or inside.max() > seen[1]:
            break  # no paper is brighter or darker than all that the image shows
        if share > best_share:
            best, best_share = np.pad(fit, (0, 6 - count)), share
        if share > 0.6:
            break
    return best


def _least_squares(terms: np.ndarray, values: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """Return the weighted fit by its normal equations, at most six."""
    weighted = (terms * weight).T
    return np.linalg.lstsq(weighted @ terms, weighted @ values, rcond=None)[0]


def _quadratic_terms(shape: tuple[int, int]) -> np.ndarray:
    """Return ``[H * W, 6]`` float32: 1, x, y, x^2, xy, y^2 with x and y from -1 to 1."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)


def _closer(grey: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Cut the ink's surroundings, a margin all around, out of the image in full resolution."""
    scale = np.array(grey.shape) / ink.shape
    low, high = _box(ink)
    margin = 0.3 * (high - low).max()
    low = np.maximum((low - margin) * scale, 0).astype(int)
    high = np.ceil((high + margin) * scale).astype(int)
    return grey[low[0] : high[0], low[1] : high[1]]


def _box(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (row, column) where the ink begins and the one after its end."""
    rows, columns = (np.flatnonzero((ink > _EDGE).any(axis)) for axis in (1, 0))
    return np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1


def _ink(grey: np.ndarray) -> np.ndarray | None:
    """Return the digit's ink, float32 ``[H, W]`` in [0, 1]; None where it cannot be told apart."""
    background = _background(grey)
    sigma = max(grey.shape) / 200
    difference = cv2.GaussianBlur(grey - background, (0, 0), sigma)
    darkest, lightest = np.quantile(difference, (0.001, 0.999))
    if max(-darkest, lightest) < _MIN_CONTRAST:
        return None
    # Dark ink takes away a share of the light that falls on it; light ink adds its own.
    dark, soft = -darkest > lightest, cv2.GaussianBlur(grey, (0, 0), sigma)
    smooth = -difference / np.maximum(background, 0.1) if dark else difference
    # Against the smooth background a shadow's edge looks like ink; against what is around, the rim
    # of a picture in slanting light does.
    local = np.minimum(_ink_in(-smooth), _ink_in(soft, share=True) if dark else _ink_in(-soft))
    local -= np.quantile(local, 0.35)  # noise lifts a closing; ink covers less than the rest
    level = np.clip(local / np.quantile(local, 0.999), 0, 1)
    threshold, _ = cv2.threshold(np.rint(255 * level).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    digit = _without_specks(level > threshold / 255)
    if not 0 < digit.mean() < 0.7:
        return None
    signal, noise = (np.median(np.abs(local[part])) for part in (digit, ~digit))
    if signal < _MIN_SIGNAL_TO_NOISE * noise:
        return None
    # The soft rims around the digit belong to it; pen pressure does not (MNIST's is flat).
    rim = cv2.dilate(digit.astype(np.uint8), np.ones((3, 3)), iterations=max(1, round(2 * sigma)))
    if np.quantile(np.abs(smooth[rim == 0]), 0.95) < 0.3 * np.median(smooth[digit]):
        local = smooth  # it explains all of the paper, and noise does not lift it
    ink = np.maximum(local, 0).astype(np.float32)
    return np.minimum(ink / np.quantile(ink[digit], 0.8), 1) * rim


def _ink_in(light: np.ndarray, share: bool = False) -> np.ndarray:
    """Return how much lower each pixel is than what is around it, or what share of that.

    A closing fills what is low and narrower than its square; what is left is the paper, with the
    edges of shadows and sheets, which no smooth background follows.
    """
    square = np.ones([2 * (max(light.shape) // 6) + 1] * 2, np.uint8)
    around = cv2.morphologyEx(light, cv2.MORPH_CLOSE, square)
    return (around - light) / (np.maximum(around, 0.1) if share else 1)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Keep the pieces of ink that are not tiny beside the largest one, nor hang at the rim.

    What hangs at the rim, a desk or a finger, touches it with most of its length; it goes where
    there is anything else.
    """
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas, longest = stats[:, cv2.CC_STAT_AREA].copy(), stats[:, 2:4].max(1)
    areas[0] = 0
    rim = np.ones(mask.shape, bool)
    rim[1:-1, 1:-1] = False
    touching = np.bincount(pieces[rim], minlength=len(areas))
    hanging = touching > 0.5 * longest
    inner = np.where(hanging, 0, areas)
    if inner.max() > 0.03 * areas.max() and longest[inner.argmax()] > 0.1 * max(mask.shape):
        areas = inner
    return (areas >= 0.05 * areas.max())[pieces] & mask


def _count(digit: np.ndarray) -> int:
    """Return how many digits stand beside each other: pieces about as high, none above another."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(digit.astype(np.uint8), connectivity=8)
    highest = stats[1:, cv2.CC_STAT_HEIGHT].max()
    tall = stats[1:][stats[1:, cv2.CC_STAT_HEIGHT] > 0.6 * highest]
    ends, count = -1, 0
    for left, _, width, _, _ in sorted(tall.tolist()):
        count += left > ends + 0.05 * highest
        ends = max(ends, left + width)
    return count


def _thick(ink: np.ndarray) -> np.ndarray:
    """Thicken strokes ``[H, W]`` thinner than nearly all of MNIST's to its usual width."""
    digit = np.pad(ink > 0.5, 1).astype(np.uint8)
    depth = cv2.distanceTransform(digit, cv2.DIST_L2, 5)[digit > 0]
    width = 4 * (depth.mean() - 0.5)  # on a bar the mean distance to the rim is a quarter
    low, high = _box(ink)
    side = (high - low).max()
    if width > _THIN * side:
        return ink
    reach = max(1, round((_TYPICAL * side - width) / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(np.pad(ink, reach), disc)


def _as_mnist(ink: np.ndarray) -> np.ndarray:
    """Scale and centre ink ``[H, W]`` in [0, 1] to uint8 ``[28, 28]``, as MNIST was made."""
    low, high = _box(ink)
    crop = ink[low[0] : high[0], low[1] : high[1]]
    scale = _BOX / max(crop.shape)
    fine = max(1, int(np.ceil(1 / scale)))  # samples per pixel and axis, averaged below
    move = np.zeros((2, 3))  # from crop to finely sampled field, (x, y) as OpenCV has it
    for axis, length in enumerate(crop.shape[::-1]):
        mass = np.arange(length) @ crop.sum(axis) / crop.sum()
        start = _CENTRE - scale * mass
        # Where the mass lies far off the box's middle, the box is kept whole.
        start = np.clip(start, scale / 2 - 0.5, _FIELD - 0.5 - scale * (length - 0.5))
        move[axis, axis] = scale * fine
        move[axis, 2] = fine * (start + 0.5) - 0.5
    field = cv2.warpAffine(crop, move, (_FIELD * fine, _FIELD * fine), flags=cv2.INTER_LINEAR)
    image = cv2.resize(field, (_FIELD, _FIELD), interpolation=cv2.INTER_AREA)
    return np.rint(255 * image / image.max()).astype(np.uint8)
