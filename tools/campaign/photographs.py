"""Photographs of handwritten digits as phones take them, made from MNIST's test digits.

Each kind is a function of a generator that spoils a photograph in one way. A photograph is float32
``[H, W, 3]`` in [0, 1], red, green, blue.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

HEIGHT, WIDTH = 480, 400
Ink = np.ndarray
"""How much ink lies on each pixel, float32 ``[H, W]`` in [0, 1]."""


def ink_of(digit: np.ndarray, rng: Generator, side: int = 260, pen: float = 1.0) -> Ink:
    """Return the ink of a digit, uint8 ``[28, 28]``, at a place that is drawn, ``side`` wide.

    ``pen`` below 1 thins the strokes.
    """
    large = cv2.resize(digit.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_CUBIC)
    large = cv2.GaussianBlur(large, (0, 0), side / 80)
    large = np.clip((large - 0.35) * 5, 0, 1)
    if pen < 1:
        depth = cv2.distanceTransform((large > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        stroke = np.median(depth[depth > 0]) * 2
        large = np.clip(depth - stroke * (1 - pen), 0, 1).astype(np.float32)
        if large.sum() < side:  # nothing would be left of a pen that was thin already
            return ink_of(digit, rng, side)
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    top, left = (rng.integers(10, length - side - 9) for length in (HEIGHT, WIDTH))
    field[top : top + side, left : left + side] = large
    return field


def on_paper(
    ink: Ink, rng: Generator, colour: tuple[float, ...] = (0.12, 0.12, 0.15)
) -> np.ndarray:
    """Return ink of a colour on bright paper, with a camera's noise."""
    paper = np.array([0.86, 0.85, 0.82], np.float32) * rng.uniform(0.9, 1.1)
    image = paper * (1 - ink[..., None]) + np.array(colour, np.float32) * ink[..., None]
    return image + rng.normal(0, 0.012, image.shape).astype(np.float32)


def places() -> tuple[np.ndarray, np.ndarray]:
    """Return y and x of all pixels, from 0 to 1."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j].astype(np.float32)
    return y, x


def side_of(rng: Generator, low: float, high: float) -> np.ndarray:
    """Return how far each pixel lies beyond a line that is drawn, as a share of the image."""
    y, x = places()
    angle, off = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - off


def lit(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return an image under a light float32 ``[H, W]``."""
    return image * light[..., None].astype(np.float32)


def plain(ink: Ink, rng: Generator) -> np.ndarray:
    """Spoil nothing."""
    return on_paper(ink, rng)


def slanting_light(ink: Ink, rng: Generator) -> np.ndarray:
    """Slanting light."""
    return lit(on_paper(ink, rng), 1 - 0.6 * np.clip(side_of(rng, -0.5, -0.4), 0, 1))


def vignette(ink: Ink, rng: Generator) -> np.ndarray:
    """Vignette."""
    y, x = places()
    return lit(on_paper(ink, rng), 1 - 1.1 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))


def soft_shadow(ink: Ink, rng: Generator) -> np.ndarray:
    """Soft shadow."""
    edge = np.clip(side_of(rng, -0.2, 0.2) / 0.25 + 0.5, 0, 1)
    return lit(on_paper(ink, rng), 1 - 0.5 * edge)


def hard_shadow(ink: Ink, rng: Generator) -> np.ndarray:
    """Hard shadow."""
    edge = np.clip(side_of(rng, -0.2, 0.2) / 0.02 + 0.5, 0, 1)
    return lit(on_paper(ink, rng), 1 - 0.5 * edge)


def sheet_on_a_desk(ink: Ink, rng: Generator) -> np.ndarray:
    """Sheet on a desk."""
    desk = (side_of(rng, 0.42, 0.48) > 0)[..., None]
    wood = np.array([0.35, 0.23, 0.14], np.float32) * rng.uniform(0.5, 1.2)
    image = on_paper(ink, rng)
    return np.where(desk, wood + rng.normal(0, 0.02, image.shape), image)


def finger_in_a_corner(ink: Ink, rng: Generator) -> np.ndarray:
    """Finger in a corner."""
    image = on_paper(ink, rng)
    corner = (int(rng.integers(2)) * WIDTH, int(rng.integers(2)) * HEIGHT)
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    size = (int(rng.integers(45, 70)), int(rng.integers(60, 95)))
    cv2.ellipse(mask, corner, size, float(rng.uniform(-30, 30)), 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    return image * (1 - mask) + np.array([0.75, 0.5, 0.42], np.float32) * mask


def lines(every: int, width: int, along: bool) -> np.ndarray:
    """Return lines every so many pixels, float32 ``[H, W, 1]``."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    for at in range(every // 2, WIDTH if along else HEIGHT, every):
        if along:
            mask[:, at : at + width] = 1
        else:
            mask[at : at + width] = 1
    return mask[..., None]


def ruled(ink: Ink, rng: Generator) -> np.ndarray:
    """Ruled."""
    mask = 0.5 * lines(60, 2, False)
    return on_paper(ink, rng) * (1 - mask) + np.array([0.5, 0.6, 0.85], np.float32) * mask


def grid_of(image: np.ndarray, strength: float, colour: tuple[float, ...]) -> np.ndarray:
    """Return an image with a grid of a colour over it."""
    mask = strength * np.maximum(lines(40, 2, False), lines(40, 2, True))
    return image * (1 - mask) + np.array(colour, np.float32) * mask


def grid(ink: Ink, rng: Generator) -> np.ndarray:
    """Grid."""
    return grid_of(on_paper(ink, rng), 0.5, (0.55, 0.65, 0.85))


def dark_grid(ink: Ink, rng: Generator) -> np.ndarray:
    """Dark grid."""
    return grid_of(on_paper(ink, rng), 0.8, (0.45, 0.5, 0.65))


def print_beside(ink: Ink, rng: Generator) -> np.ndarray:
    """Print beside."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows = np.flatnonzero((ink > 0.3).any(1))
    below = HEIGHT - rows[-1] > rows[0]
    at = (rows[-1] + HEIGHT) // 2 + 12 if below else rows[0] // 2 + 12
    words = ["Question 7 of 12", "Name and date", "Answer here:", "page 3 of 9"]
    text = words[int(rng.integers(len(words)))]
    cv2.putText(mask, text, (12, int(at)), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2, cv2.LINE_AA)
    return on_paper(np.maximum(ink, mask.astype(np.float32) / 300), rng)


def blurred(ink: Ink, rng: Generator) -> np.ndarray:
    """Blurred."""
    return cv2.GaussianBlur(on_paper(ink, rng), (0, 0), 7)


def noisy(ink: Ink, rng: Generator) -> np.ndarray:
    """Noisy."""
    return on_paper(ink, rng) + rng.normal(0, 0.08, (HEIGHT, WIDTH, 3)).astype(np.float32)


def turned(ink: Ink, rng: Generator) -> np.ndarray:
    """Turned."""
    angle = float(rng.uniform(-12, 12))
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, 0.9)
    return on_paper(cv2.warpAffine(ink, turn, (WIDTH, HEIGHT)), rng)


def in_perspective(ink: Ink, rng: Generator) -> np.ndarray:
    """In perspective."""
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
    moved = corners * 0.86 + 0.07 * np.array([WIDTH, HEIGHT])
    moved += rng.uniform(-0.06, 0.06, (4, 2)) * WIDTH
    way = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return on_paper(cv2.warpPerspective(ink, way, (WIDTH, HEIGHT)), rng)


def coloured_ink(ink: Ink, rng: Generator) -> np.ndarray:
    """Coloured ink."""
    colours = [(0.1, 0.2, 0.65), (0.7, 0.1, 0.12), (0.05, 0.45, 0.2)]
    return on_paper(ink, rng, colours[int(rng.integers(3))])


def pencil(ink: Ink, rng: Generator) -> np.ndarray:
    """Pencil."""
    grain = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.2)
    return on_paper(ink * np.clip(0.55 + 2 * (grain - 0.5), 0.2, 0.8), rng)


def dim(ink: Ink, rng: Generator) -> np.ndarray:
    """Dim."""
    return 0.22 * on_paper(ink, rng) + rng.normal(0, 0.01, (HEIGHT, WIDTH, 3)).astype(np.float32)


def bright(ink: Ink, rng: Generator) -> np.ndarray:
    """Bright."""
    return np.clip(1.35 * on_paper(ink, rng), 0, 1)


def blackboard(ink: Ink, rng: Generator) -> np.ndarray:
    """Blackboard."""
    smear = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH)).astype(np.float32), (0, 0), 25)
    board = (0.15 + 0.6 * (smear - 0.5))[..., None] * np.array([0.9, 1.1, 1.0], np.float32)
    chalk = (0.85 * ink)[..., None]
    return board * (1 - chalk) + chalk + rng.normal(0, 0.02, board.shape).astype(np.float32)


def coffee(ink: Ink, rng: Generator) -> np.ndarray:
    """Coffee."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    centre = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
    cv2.circle(mask, centre, int(rng.integers(60, 120)), 1, 8)
    mask = 0.3 * cv2.GaussianBlur(mask, (0, 0), 2)[..., None]
    return on_paper(ink, rng) * (1 - mask) + np.array([0.5, 0.35, 0.2], np.float32) * mask


def crumpled(ink: Ink, rng: Generator) -> np.ndarray:
    """Crumpled."""
    light = np.ones((HEIGHT, WIDTH), np.float32)
    for _ in range(6):
        light += rng.uniform(-0.07, 0.07) * np.sign(side_of(rng, -0.4, 0.4))
    return lit(on_paper(ink, rng), cv2.GaussianBlur(light, (0, 0), 2))


def two_lamps(ink: Ink, rng: Generator) -> np.ndarray:
    """Two lamps."""
    warm = np.clip(side_of(rng, -0.3, 0.3) + 0.5, 0, 1)[..., None]
    tint = warm * np.array([1.0, 0.85, 0.6]) + (1 - warm) * np.array([0.7, 0.8, 1.0])
    return on_paper(ink, rng) * tint.astype(np.float32)


Kind = tuple[Callable[[Ink, Generator], np.ndarray], int, float]
"""What is done, how many pixels wide the digit's field is, how thick the pen is."""
KINDS: dict[str, Kind] = {
    **{
        kind.__name__: (kind, 260, 1.0)
        for kind in (plain, slanting_light, vignette, soft_shadow, hard_shadow, sheet_on_a_desk)
        + (finger_in_a_corner, ruled, grid, dark_grid, print_beside, blurred, noisy, turned)
        + (in_perspective, coloured_ink, pencil, dim, bright, blackboard, coffee, crumpled)
        + (two_lamps,)
    },
    "small": (plain, 90, 1.0),
    "thin_pen": (plain, 260, 0.5),
    "thin_pen_in_hard_shadow": (hard_shadow, 260, 0.5),
    "thin_pen_on_a_dark_grid": (dark_grid, 260, 0.5),
    "small_on_a_desk": (sheet_on_a_desk, 120, 1.0),
}


def photograph(digit: np.ndarray, kind: str, seed: int, quality: int = 70) -> bytes:
    """Return a photograph of a digit, uint8 ``[28, 28]``, as a JPEG file."""
    spoil, side, pen = KINDS[kind]
    rng = np.random.default_rng(seed)
    image = spoil(ink_of(digit, rng, side, pen), rng)
    return jpeg(image, quality)


def jpeg(image: np.ndarray, quality: int = 70) -> bytes:
    """Return an image float ``[H, W, 3]`` as a JPEG file."""
    levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)[..., ::-1]
    return cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def several_digits(digits: np.ndarray, seed: int) -> bytes:
    """Return two or three digits, uint8 ``[N, 28, 28]``, beside each other, as a JPEG file."""
    rng = np.random.default_rng(seed)
    side = WIDTH // (len(digits) + 1)
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    top = int(rng.integers(40, HEIGHT - side - 40))
    for place, digit in enumerate(digits):
        large = cv2.resize(digit.astype(np.float32) / 255, (side, side))
        left = int((place + 0.3) * WIDTH / len(digits))
        left = min(left, WIDTH - side)
        field[top : top + side, left : left + side] = np.clip((large - 0.3) * 4, 0, 1)
    return jpeg(on_paper(field, rng))
