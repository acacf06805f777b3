"""The figures of the studies draw what they are given, legibly, and refuse what does not fit."""

import io
from collections.abc import Callable, Iterator

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pytest
from figure_checks import assert_legible, assert_refused
from matplotlib.figure import Figure
from PIL import Image

from learn2add.data import Digits
from learn2add.studies import figures

pytestmark = pytest.mark.filterwarnings("error")
BOTH = {"title": "A title", "caption": "quick budget, seed 0, MNIST test set"}
NAMES = ("autoencoder", "generative encoder", "generative encoder and adder", "perfect")
STRENGTHS = np.linspace(0, 0.8, 9)
MEASURES = {
    "RMSE": {name: 0.1 + 0.1 * i * STRENGTHS for i, name in enumerate(NAMES)},
    "PSNR (dB)": {name: 20 - 5 * i * STRENGTHS for i, name in enumerate(NAMES)},
    "read rightly (%)": {"perfect": 100 - STRENGTHS},
}
LABELS = np.arange(50) % 10
RNG = np.random.default_rng(0)
POINTS = {"AE": RNG.normal(size=(50, 2)), "VAE": RNG.normal(size=(50, 2))}
SHEET = figures.Sheet(RNG.random((4, 4, 28, 28)), [[-1, -2], [3, 4]])
SHARES = {"rate": [0.5, 0.6], "units": [0.3, 0.2], "(nothing)": [0.1]}
SETTINGS = {
    "learning_rate": 10 ** RNG.uniform(-4, -2, 40),
    "dropout": RNG.choice([0.0, 0.1, 0.2], 40),
    "units": RNG.integers(10, 200, 40),
}
ERRORS = 10 ** RNG.uniform(-2, -1, 40)


@pytest.fixture(autouse=True)
def _no_setting_is_left() -> Iterator[None]:
    with mpl.rc_context():
        yield


GALLERY: dict[str, Callable[[], Figure]] = {
    "strength_curves": lambda: figures.strength_curves(
        STRENGTHS, MEASURES, xlabel="standard deviation of the noise", **BOTH
    ),
    "importance_bars": lambda: figures.importance_bars(SHARES, **BOTH),
    "slices": lambda: figures.slices(
        SETTINGS, ERRORS, logarithmic=["learning_rate"], marked={"dropout": 0.1}, **BOTH
    ),
    "code_maps": lambda: figures.code_maps(POINTS, LABELS, {"AE": SHEET, "VAE": SHEET}, **BOTH),
}


@pytest.mark.parametrize("name", GALLERY)
def test_nothing_overlaps_and_settings_are_left_alone(name: str) -> None:
    before = dict(mpl.rcParams)
    figure = GALLERY[name]()
    assert dict(mpl.rcParams) == before
    assert_legible(figure, *BOTH.values(), smallest=8)


def test_strength_curves_give_a_model_one_look_in_every_panel() -> None:
    figure = figures.strength_curves(STRENGTHS, MEASURES, xlabel="noise")
    looks = {}
    for axes, (measure, lines) in zip(figure.axes, MEASURES.items(), strict=True):
        assert (axes.get_ylabel(), axes.get_xlabel()) == (measure, "noise")
        for line, (name, values) in zip(axes.lines, lines.items(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), values)
            looks.setdefault(name, set()).add((line.get_color(), line.get_marker()))
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == len(NAMES)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(NAMES)


def test_strength_curves_on_logarithmic_axes_say_plain_numbers() -> None:
    labels = [10, 100, 1000, 50_000]
    drawn = {"wrong (%)": {"frozen": [30.0, 10, 5, 3]}}
    figure = figures.strength_curves(labels, drawn, xlabel="labels", log="xy")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100", "1,000", "50,000"]
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert len(shown) >= 3 and [float(text) for text in shown] == sorted(map(float, shown))


def test_a_film_goes_there_and_back(mnist_test: Digits) -> None:
    row = mnist_test.images[:5].numpy()
    film = figures.film({"a": row, "<b>": row[::-1]}, zoom=2, alt="two rows")
    moving = Image.open(io.BytesIO(film.gif))
    assert moving.n_frames == 8 and moving.info["loop"] == 0
    assert moving.size == (2 * 2 * 30, 2 * 28)
    moving.seek(4)
    shown = np.asarray(moving.convert("L"))[::2, ::2]
    assert np.abs(shown[:, :28].astype(int) - row[4]).max() <= 2
    assert 'alt="two rows: a, &lt;b&gt;"' in film._repr_html_()


def test_code_maps_show_every_digit_and_their_sheets() -> None:
    figure = figures.code_maps(POINTS, LABELS, {"AE": SHEET, "VAE": SHEET})
    titles = [axes.get_title() for axes in figure.axes]
    assert sorted(titles)[:2] == ["AE", "AE: what is drawn there"]
    shown = next(axes for axes in figure.axes if axes.get_title() == "AE")
    assert sum(len(c.get_offsets()) for c in shown.collections) == 50
    assert shown.get_xlim() == (-1, 3) and shown.get_ylim() == (-2, 4)
    drawn = figure.axes[titles.index("AE: what is drawn there")].images[0].get_array()
    np.testing.assert_allclose(drawn[28:56, 84:], SHEET.pictures[1, 3], atol=1e-6)
    (alone,) = figures.code_maps({"one": POINTS["AE"]}, LABELS).axes
    low, high = np.transpose([alone.get_xlim(), alone.get_ylim()])
    assert (low < POINTS["AE"].min(0)).all() and (POINTS["AE"].max(0) < high).all()


def test_seeds_are_told_as_lowest_and_highest() -> None:
    assert figures.low_to_high(x for x in (0.2462, 0.2449, 0.2451)) == "0.245 to 0.246"
    assert figures.low_to_high([0.2449, 0.2451]) == "0.245"
    assert figures.low_to_high([175, 226, 142], "") == "142 to 226"


def test_importance_is_drawn() -> None:
    (axes,) = figures.importance_bars(SHARES).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SHARES)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([55, 25, 10])
    assert [text.get_text() for text in axes.texts] == ["55 %", "25 %", "10 %"]


def test_slices_show_every_setting() -> None:
    up, logarithmic = np.arange(40) % 4 == 0, ["learning_rate", "dropout"]
    marked = {"dropout": 0.1, "units": 64}
    figure = figures.slices(SETTINGS, ERRORS, logarithmic=logarithmic, given_up=up, marked=marked)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in shown] == list(SETTINGS)
    for axes in shown:
        done, given_up = (dots.get_offsets() for dots in axes.collections)
        np.testing.assert_allclose(done[:, 1], ERRORS[~up])
        np.testing.assert_allclose(given_up[:, 1], ERRORS[up])
    assert [axes.get_xscale() for axes in shown] == ["log", "linear", "linear"]  # levels stay so
    marks = [[x for line in axes.lines for x in line.get_xdata()][-2:] for axes in shown]
    assert marks[1:] == [[1, 1], [64, 64]]  # 0.1 is the middle one of three levels
    written = [text.get_text() for text in figure.legends[0].get_texts()]
    assert written == ["a setting", "given up early", "median", "the report's best"]


BAD = {
    "values per strength": (
        lambda: figures.strength_curves([0, 1], {"a": {"b": [1]}}, xlabel="x"),
        r"measures\['a'\]\['b'\] is \(1,\); allowed is \(2,\)",
    ),
    "nine models": (
        lambda: figures.strength_curves(
            [0, 1], {"a": dict.fromkeys("abcdefghi", [0, 1])}, xlabel=""
        ),
        "models .*1 to 8",
    ),
    "points": (lambda: figures.code_maps({"a": np.zeros((9, 2))}, LABELS), r"maps\['a'\]"),
    "sheet of no map": (lambda: figures.code_maps(POINTS, LABELS, {"b": SHEET}), "sheets .*'b'"),
    "no grid": (
        lambda: figures.code_maps(POINTS, LABELS, {"AE": SHEET._replace(pictures=np.eye(4))}),
        r"pictures is \(4, 4\); allowed is \[R, C, S, S\]",
    ),
    "films of two lengths": (
        lambda: figures.film({"a": np.zeros((3, 28, 28)), "b": np.zeros((2, 28, 28))}),
        "scenes",
    ),
    "a film of one image": (lambda: figures.film({"a": np.zeros((1, 28, 28))}), "scenes"),
    "zoom": (lambda: figures.film({"a": np.zeros((3, 28, 28))}, zoom=99), "zoom"),
    "values per setting": (lambda: figures.slices({"a": [1, 2]}, [1.0]), r"settings\['a'\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(name: str) -> None:
    assert_refused(*BAD[name])
