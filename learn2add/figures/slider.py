"""A slider for notebooks: move the addend and watch the sum being drawn."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learn2add.checks import check_int
from learn2add.figures.images import png_of

Draw = Callable[[int, float, str], Figure]


def sum_slider(draw: Draw, models: Sequence[str], *, digit: int = 7, addend: float = 2.0) -> None:
    """Show, in a notebook, controls for digit, addend and model above the image of the sum.

    While a kernel runs, every move draws anew. Where none runs (GitHub, nbviewer, nbconvert), or
    without ipywidgets, the same output shows a fixed image: what each model draws at the start.
    ``draw(digit, addend, model)`` makes the figure, and should write all three into it, for the
    fixed image has no controls to tell them. Source: assignment, Part III item 7.
    """
    check_int("digit", digit, 0, 9)
    if not 0 <= addend <= 9:
        raise ValueError(f"addend is {addend}; allowed is a number from 0 to 9")
    from IPython.display import display  # both come with the notebooks' extra

    images = {name: as_png(draw(int(digit), float(addend), name)) for name in models}
    output = {
        "text/plain": f"{digit} + {addend:g}, drawn by {', '.join(images)}",
        "image/png": base64.b64encode(stacked(list(images.values()))).decode(),
    }
    try:
        import ipywidgets as widgets
    except ImportError:
        pass
    else:
        live = controls(widgets, draw, images, int(digit), float(addend))
        view = {"version_major": 2, "version_minor": 0, "model_id": live.model_id}
        output["application/vnd.jupyter.widget-view+json"] = view
    display(output, raw=True)


def controls(widgets: Any, draw: Draw, images: dict[str, bytes], digit: int, addend: float) -> Any:
    """Make the controls above an image that follows them; ``images`` are the PNGs at the start."""
    names = list(images)
    # Wide, for the usual 300 px leave a step of the addend little more than a pixel.
    look = {"min": 0, "max": 9, "continuous_update": True, "layout": {"width": "480px"}}
    digits = widgets.IntSlider(value=digit, description="digit", **look)
    look |= {"step": 0.1, "readout_format": ".1f"}
    addends = widgets.FloatSlider(value=addend, description="addend", **look)
    model = widgets.Dropdown(options=names, value=names[0], description="model")
    # In its own size at the left: a box would stretch it to the width of the page.
    shown = widgets.Image(value=images[names[0]], layout={"align_self": "flex-start"})

    def follow(_: object) -> None:
        # Rounded, for a step of 0.1 is not exact in binary: 2.3, not 2.3000000000000003.
        shown.value = as_png(draw(digits.value, round(addends.value, 6), model.value))

    for control in (model, digits, addends):
        control.observe(follow, "value")
    return widgets.VBox([digits, addends, model, shown])


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG; it is closed, so that a slider leaves none behind."""
    if not isinstance(figure, Figure):
        raise ValueError(f"what draw returns is {type(figure).__name__}; allowed is a figure")
    png = png_of(figure)
    plt.close(figure)
    return png


def stacked(pngs: Sequence[bytes]) -> bytes:
    """Join PNGs one below the other, on white, to one."""
    images = [plt.imread(io.BytesIO(png)) for png in pngs]
    wide = max(image.shape[1] for image in images)
    rows = [np.pad(i, [(0, 0), (0, wide - i.shape[1]), (0, 0)], constant_values=1) for i in images]
    content = io.BytesIO()
    options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    plt.imsave(content, np.concatenate(rows), format="png", **options)
    return content.getvalue()
