"""A slider for notebooks: move the addend and watch the sum being drawn."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learn2add.figures.inputs import as_digits, as_numbers, as_strings


def sum_slider(
    draw: Callable[[int, float, str], Figure],
    models: Sequence[str],
    *,
    digit: int = 7,
    addend: float = 2.0,
) -> None:
    """Show, in a notebook, controls for digit, addend and model above the picture of the sum.

    While a kernel runs, every move draws anew. Where none runs (GitHub, nbviewer, nbconvert), or
    without ipywidgets, the same output shows a fixed picture: what each model draws at the start.

    Args:
        draw: Makes the picture, as ``draw(digit, addend, model)``. It should write all three into
            it, for the fixed picture has no controls to tell them.
        models: Names to choose from, each once; the first is chosen at the start.
        digit: At the start, 0 to 9.
        addend: At the start, 0 to 9; the control moves in steps of 0.1.

    Raises:
        ValueError: An argument does not fit, or ``draw`` returns something else than a figure.
        ImportError: There is no IPython, and so no notebook to show anything in.

    Source: assignment, Part III item 7.
    """
    names = as_strings("models", models)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"models must be one or more names, each once, got {names}")
    as_digits(digit=digit)
    start = float(as_numbers("addend", addend, (), low=0))
    if start > 9:
        raise ValueError(f"addend must not be above 9, got {start:g}")
    from IPython.display import display  # both come with the notebooks' extra

    pictures = {name: as_png(draw(int(digit), start, name)) for name in names}
    output = {
        "text/plain": f"{digit} + {start:g}, drawn by {', '.join(names)}",
        "image/png": base64.b64encode(stacked(list(pictures.values()))).decode(),
    }
    try:
        import ipywidgets as widgets
    except ImportError:
        pass
    else:
        live = controls(widgets, draw, pictures, int(digit), start)
        view = {"version_major": 2, "version_minor": 0, "model_id": live.model_id}
        output["application/vnd.jupyter.widget-view+json"] = view
    display(output, raw=True)


def controls(
    widgets: Any,
    draw: Callable[[int, float, str], Figure],
    pictures: Mapping[str, bytes],
    digit: int,
    addend: float,
) -> Any:
    """The controls above a picture that follows them, as one widget.

    ``widgets`` is the module ipywidgets; ``pictures`` are, by model, the PNGs at the start.
    """
    names = list(pictures)
    wide = {"width": "480px"}  # the usual 300 leave a step of the addend little more than a pixel
    model = widgets.Dropdown(options=names, value=names[0], description="model")
    digits = widgets.IntSlider(
        value=digit, min=0, max=9, description="digit", continuous_update=True, layout=wide
    )
    addends = widgets.FloatSlider(
        value=addend,
        min=0,
        max=9,
        step=0.1,
        readout_format=".1f",
        description="addend",
        continuous_update=True,
        layout=wide,
    )
    # In its own size at the left: a box would stretch it to the width of the page.
    shown = widgets.Image(value=pictures[names[0]], layout={"align_self": "flex-start"})

    def follow(_: object) -> None:
        # Rounded, for a step of 0.1 is not exact in binary: 2.3, not 2.3000000000000003.
        shown.value = as_png(draw(digits.value, round(addends.value, 6), model.value))

    for control in (model, digits, addends):
        control.observe(follow, "value")
    return widgets.VBox([digits, addends, model, shown])


def as_png(figure: Figure) -> bytes:
    """A figure as PNG; it is closed, so that a slider leaves none behind."""
    if not isinstance(figure, Figure):
        raise ValueError(f"draw must return a figure, got {type(figure).__name__}")
    content = io.BytesIO()
    try:
        figure.savefig(content, format="png", bbox_inches="tight", metadata={"Software": None})
    finally:
        plt.close(figure)
    return content.getvalue()


def stacked(pictures: Sequence[bytes]) -> bytes:
    """PNGs one below the other, on white, as one."""
    images = [plt.imread(io.BytesIO(picture)) for picture in pictures]
    width = max(image.shape[1] for image in images)
    rows = [
        np.pad(image, [(0, 0), (0, width - image.shape[1]), (0, 0)], constant_values=1)
        for image in images
    ]
    content = io.BytesIO()
    options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    plt.imsave(content, np.concatenate(rows), format="png", **options)
    return content.getvalue()
