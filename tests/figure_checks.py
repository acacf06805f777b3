"""What the tests of figures share: what a figure says, whether it can be read, what is refused."""

import itertools
from collections.abc import Callable

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure


def texts(figure: Figure) -> list[mpl.text.Text]:
    return [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def drawn_texts(figure: Figure) -> list[mpl.text.Text]:
    """What a reader sees; matplotlib keeps spare tick labels besides, which it does not draw."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    spare = {label for axis in axes for label in axis.findobj(mpl.text.Text)}
    seen = [axis.label for axis in axes if axis.axes.axison]
    for axis in axes:
        for tick in axis._update_ticks() if axis.axes.axison else []:
            seen += [tick.label1, tick.label2]
    return [t for t in texts(figure) if t not in spare or t in seen]


def assert_legible(figure: Figure, *expected: str, smallest: float = 6.5) -> None:
    """Nothing written overlaps, is cut off at a side or too small; what is expected is there."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    extent = mpl.text.Text.get_window_extent  # of the words: an annotation adds its leader
    boxes = [(t.get_text(), extent(t, renderer)) for t in drawn_texts(figure)]
    assert len(boxes) > 2
    for (one, box), (other, rival) in itertools.combinations(boxes, 2):
        width = min(box.x1, rival.x1) - max(box.x0, rival.x0)
        height = min(box.y1, rival.y1) - max(box.y0, rival.y0)
        assert min(width, height) < 1.5, f"{one!r} and {other!r} overlap"
    page = figure.bbox
    for text, box in boxes:
        assert page.x0 - 10 < box.x0 and box.x1 < page.x1 + 10, f"{text!r} is cut off"
        assert page.y0 - 1 < box.y0 and box.y1 < page.y1 + 1, f"{text!r} is cut off"
    assert set(expected) <= set(words(figure))
    assert min(text.get_size() for text in drawn_texts(figure)) >= smallest


def assert_refused(call: Callable[[], Figure], message: str) -> None:
    """One clear error, the settings as they were, and no figure left open."""
    before = dict(mpl.rcParams)
    with pytest.raises(ValueError, match=message):
        call()
    assert plt.get_fignums() == [] and dict(mpl.rcParams) == before
