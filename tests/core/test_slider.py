"""The slider draws what its controls say, and leaves a picture where there are no controls."""

import base64
import io
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure

from learn2add import figures

ROOT = Path(__file__).parents[2]
VIEW = "application/vnd.jupyter.widget-view+json"
GREYS = {"autoencoder": 0.25, "generative": 0.75}
Bundle = dict[str, Any]


def draw(digit: int, addend: float, model: str) -> Figure:
    """As many grey pictures as the sum comes to, rounded; one more, in a row, of the second."""
    count = round(digit + addend) + list(GREYS).index(model)
    pictures = np.full((count, 28, 28), GREYS[model])
    return figures.image_grid(pictures, columns=20, title=f"{digit} + {addend:g}, {model}")


def pixels(png: bytes) -> np.ndarray:
    return plt.imread(io.BytesIO(png))


def drawn(digit: int, addend: float, model: str) -> np.ndarray:
    """What that call of ``draw`` looks like in a notebook."""
    content = io.BytesIO()
    figure = draw(digit, addend, model)
    figure.savefig(content, format="png", bbox_inches="tight")
    plt.close(figure)
    return pixels(content.getvalue())


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[Bundle]:
    """What has been displayed, as a notebook receives it."""
    display, found = pytest.importorskip("IPython.display"), []

    def receive(output: Bundle, *, raw: bool = False) -> None:
        assert raw
        found.append(output)

    monkeypatch.setattr(display, "display", receive)
    return found


def controls(bundle: Bundle) -> list[Any]:
    """The sliders for digit and addend, the choice of model, and the picture in an output."""
    widgets = pytest.importorskip("ipywidgets")
    find = widgets.widget_serialization["from_json"]
    box = find(f"IPY_MODEL_{bundle[VIEW]['model_id']}", None)
    digit, addend, model, shown = box.children
    assert [control.description for control in (digit, addend, model)] == [
        "digit",
        "addend",
        "model",
    ]
    return [digit, addend, model, shown]


def fixed_picture(bundle: Bundle) -> np.ndarray:
    return pixels(base64.b64decode(bundle["image/png"], validate=True))


def test_moving_a_control_draws_the_new_sum_at_once(bundles: list[Bundle]) -> None:
    calls = []

    def listening(*values: object) -> Figure:
        calls.append(values)
        return draw(*values)

    assert figures.sum_slider(listening, list(GREYS), digit=3, addend=1.5) is None
    (bundle,) = bundles
    digit, addend, model, shown = controls(bundle)
    assert calls == [(3, 1.5, "autoencoder"), (3, 1.5, "generative")]
    np.testing.assert_array_equal(pixels(shown.value), drawn(3, 1.5, "autoencoder"))
    moves = [
        (digit, 8, (8, 1.5, "autoencoder")),
        (addend, 0.1 + 0.2, (8, 0.3, "autoencoder")),
        (model, "generative", (8, 0.3, "generative")),
    ]
    for control, value, expected in moves:
        control.value = value
        assert calls[-1] == expected
        np.testing.assert_array_equal(pixels(shown.value), drawn(*expected))
        assert plt.get_fignums() == []
    assert len(calls) == 5
    assert type(calls[-1][0]) is int and type(calls[-1][1]) is float


def test_controls_span_what_can_be_asked(bundles: list[Bundle]) -> None:
    figures.sum_slider(draw, list(GREYS))
    digit, addend, model, _ = controls(bundles[0])
    assert (digit.value, digit.min, digit.max, digit.step) == (7, 0, 9, 1)
    assert (addend.value, addend.min, addend.max, addend.step) == (2, 0, 9, 0.1)
    assert digit.continuous_update and addend.continuous_update
    assert (list(model.options), model.value) == (list(GREYS), "autoencoder")


def test_the_same_output_holds_controls_and_a_fixed_picture(bundles: list[Bundle]) -> None:
    figures.sum_slider(draw, list(GREYS), digit=0, addend=2)
    (bundle,) = bundles
    assert set(bundle) == {VIEW, "image/png", "text/plain"}
    assert bundle["text/plain"] == "0 + 2, drawn by autoencoder, generative"
    picture = fixed_picture(bundle)
    above, below = (drawn(0, 2, name) for name in GREYS)
    assert picture.shape[0] == len(above) + len(below)
    assert picture.shape[1] == below.shape[1] > above.shape[1]
    for part, whole in ((picture[: len(above)], above), (picture[len(above) :], below)):
        np.testing.assert_allclose(part[:, : whole.shape[1]], whole, atol=1.01 / 255)
        assert (part[:, whole.shape[1] :] == 1).all()  # white where the other one is wider
    assert plt.get_fignums() == []


def test_without_ipywidgets_the_fixed_picture_alone_is_shown(
    bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures.sum_slider(draw, list(GREYS))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    figures.sum_slider(draw, list(GREYS))
    live, still = bundles
    assert set(still) == {"image/png", "text/plain"}
    assert still["image/png"] == live["image/png"]  # the same bytes each time
    assert plt.get_fignums() == []


def slide(**changes: object) -> Callable[[], None]:
    return lambda: figures.sum_slider(**{"draw": draw, "models": list(GREYS), **changes})


BAD = {
    "digit below": (slide(digit=-1), "digit .*-1"),
    "digit above": (slide(digit=10), "digit .*10"),
    "half a digit": (slide(digit=7.5), "digit .*7.5"),
    "addend below": (slide(addend=-0.1), "addend is -0.1; allowed is"),
    "addend above": (slide(addend=9.1), "addend is 9.1; allowed is"),
    "addend NaN": (slide(addend=float("nan")), "addend is nan; allowed is"),
    "draw": (slide(draw=lambda *_: None), "what draw returns is NoneType; allowed is a figure"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_shows_nothing(name: str, bundles: list[Bundle]) -> None:
    call, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
    assert bundles == [] and plt.get_fignums() == []


NOTEBOOK = (
    """
import ipywidgets
import numpy as np
from learn2add import figures
def draw(digit, addend, model):
    return figures.image_grid(np.zeros((3, 28, 28)), title=f"{digit} + {addend:g}, {model}")
figures.sum_slider(draw, ["autoencoder"])
""",
    """
import matplotlib.pyplot as plt
bar = ipywidgets.IntProgress()
display(bar)
plt.get_fignums()
""",
)


def test_an_executed_notebook_keeps_the_picture_and_no_widget(tmp_path: Path) -> None:
    source = tmp_path / "08_slider.ipynb"
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in NOTEBOOK]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    tool = [sys.executable, str(ROOT / "tools" / "notebooks.py"), "--in-place", str(source)]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = source.read_text()
    assert "widget" not in written.replace("ipywidgets", "") and "IntProgress" in cells[1].source
    first, second = nbformat.reads(written, as_version=4).cells
    (output,) = first.outputs  # the figure itself is not shown a second time
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.data["text/plain"] == "7 + 2, drawn by autoencoder"
    assert pixels(base64.b64decode(output.data["image/png"])).shape[1] > 200
    assert [o.data["text/plain"] for o in second.outputs] == ["[]"]  # no bar, no figure left


def test_what_the_controls_need_is_an_extra_and_no_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = {"dependencies": project["dependencies"], **extras}
    names = [(key, re.match(r"[\w-]+", line).group()) for key in lists for line in lists[key]]
    assert [key for key, name in names if name == "ipywidgets"] == ["notebooks"]
    code = "import sys, learn2add.figures\nprint({'IPython', 'ipywidgets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


IN_A_KERNEL = """
import sys
import ipykernel.zmqshell  # what tqdm.auto takes for a notebook
sys.modules["ipywidgets"] = None
import learn2add.train, learn2add.studies.features, learn2add.studies.sweeps
"""


def test_bars_of_a_kernel_without_ipywidgets_are_text_and_no_warning() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_KERNEL], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
