"""The figures of the evidence draw what they are given, legibly, and refuse what does not fit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_checks import assert_legible, assert_refused, words
from matplotlib.figure import Figure

from learn2add import figures
from learn2add.studies.table1 import weightings_table

pytestmark = pytest.mark.filterwarnings("error")
CAPTION = "quick budget, seed 0, MNIST test set"
NAMES = ("autoencoder", "generative encoder", "generative encoder and adder")
BETWEEN, FULL = np.linspace(1, 2, 21), np.linspace(0, 9, 181)
NAN = float("nan")
SHARES = {
    "autoencoder": (0.62, 0.25, 0.13),
    "generative encoder": (0.95, 0.03, 0.02),
    "generative encoder and adder": (0.02, 0.03, 0.95),
    "perfect": (NAN, NAN, NAN),
}
WRONG = dict(zip(SHARES, (0.0071, 0.021, 0.11, 0.0), strict=True))
POINTS = {
    NAMES[0]: [(0, 0.993, 0.05), (1, 0.993, 0.05)],
    NAMES[1]: [(0, 0.985, 0.05), (0.5, 0.98, 0.17), (0.75, 0.97, 0.27), (1, 0.94, 0.39)],
    NAMES[2]: [(0, 0.972, 0.04), (0.5, 0.96, 0.24), (0.75, 0.93, 0.4), (1, 0.86, 0.56)],
}
SEEDS = {"conv_transpose": [99.1, 99.3, 99.2], "conv_upsample": [98.0, 98.4], "one": [97.5]}


@pytest.fixture(autouse=True)
def _no_setting_is_left() -> Iterator[None]:
    with mpl.rc_context():
        yield


def sweep(addends: np.ndarray, digit: int, blur: float) -> np.ndarray:
    """Ten probabilities for each addend, the nearest digit's the highest."""
    p = np.exp(-np.square((digit + addends)[:, None] - np.arange(10)) / blur)
    return p / p.sum(1, keepdims=True)


def sweeps(addends: np.ndarray, digit: int = 7) -> dict[str, np.ndarray]:
    return {n: sweep(addends, digit, b) for n, b in zip(NAMES, (0.2, 0.5, 0.9), strict=True)}


def weightings(count: int = 16) -> tuple[list[dict], np.ndarray]:
    """Rows that all differ, and pictures that all differ: one grey of its own for each."""
    verdicts = ("only fuzzy nines", "generates numbers different from the target", "correct")
    rows = [
        {
            "weights": (0.1 * (i + 1), 1, 0.00001 * (i + 1), 0.00015),
            "verdict": verdicts[min(i // 6, 2)],
            "accuracy": i / (count - 1),
            "digits": min(i, 10),
            "active": i % 8,
            "code_size": 7,
        }
        for i in range(count)
    ]
    grey = np.arange(count * 10, dtype=np.uint8).reshape(count, 10, 1, 1)
    return rows, np.tile(grey, (1, 1, 28, 28))


def gallery() -> dict[str, Callable[[], Figure]]:
    """Each figure as the notebooks use it, by name."""
    both = {"title": "A title", "caption": CAPTION}
    turning = dict(zip(NAMES, (1.49, 1.51, NAN), strict=True))
    return {
        "sweep_curves": lambda: figures.sweep_curves(
            BETWEEN, sweeps(BETWEEN), turning=turning, **both
        ),
        "sweep_curves_far": lambda: figures.sweep_curves(
            FULL, sweeps(FULL), turning={NAMES[0]: 1.5, NAMES[1]: 12.0}, **both
        ),
        "digit_map": lambda: figures.digit_map(FULL, sweeps(FULL, 0), digit=0, **both),
        "digit_map_alone": lambda: figures.digit_map(FULL, {"": sweep(FULL, 7, 0.5)}, **both),
        "digit_map_of_sums": lambda: figures.digit_map(
            FULL, {"": sweep(FULL, 0, 0.5)}, digit=0, xlabel="sum asked for", **both
        ),
        "trade_off": lambda: figures.trade_off(POINTS, **both),
        "blame_bars": lambda: figures.blame_bars(SHARES, WRONG, **both),
        "weightings_table": lambda: weightings_table(*weightings(), **both),
        "seeds_plot": lambda: figures.seeds_plot(SEEDS, ylabel="right sums (%)", **both),
        "seeds_plot_eight": lambda: figures.seeds_plot(
            {f"conv_transpose {i}": [0.1835, 0.1821 + i / 5000] for i in range(8)},
            ylabel="RMSE",
            digits=4,
            **both,
        ),
    }


@pytest.mark.parametrize("name", gallery())
def test_nothing_overlaps_or_leaves_the_page(name: str, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = gallery()[name]()
    assert dict(mpl.rcParams) == before
    assert_legible(figure, "A title", CAPTION, smallest=8)
    path = figures.save_png(figure, tmp_path / f"{name}.png")
    assert path.stat().st_size < 250_000 and 400 < plt.imread(path).shape[1] < 1150


def test_sweep_curves_draw_the_two_digits_and_all_others_together() -> None:
    models, turning = sweeps(BETWEEN), {NAMES[0]: 1.494, NAMES[1]: NAN, NAMES[2]: 2.5}
    figure = figures.sweep_curves(BETWEEN, models, turning=turning)
    assert [axes.get_title("left") for axes in figure.axes] == list(NAMES)
    for axes, p in zip(figure.axes, models.values(), strict=True):
        low, high, others = axes.lines[:3]
        for line, wanted in ((low, p[:, 8]), (high, p[:, 9]), (others, p[:, :8].sum(1))):
            np.testing.assert_array_equal(line.get_xdata(), BETWEEN)
            np.testing.assert_allclose(line.get_ydata(), wanted, atol=1e-12)
        assert len({line.get_color() for line in (low, high, others)}) == 3
        assert axes.get_xlim() == (1, 2) and axes.get_xlabel() == "number added to a 7"
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    turns = [[line.get_xdata()[0] for line in axes.lines[3:]] for axes in figure.axes]
    assert turns == [[1.494], [], []]  # no line where there is no turn, or beyond the axis
    written = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert written == [["turns at 1.49"], ["no turning point"], ["turns at 2.50"]]
    assert {"read as 8", "read as 9", "all other digits"} <= set(words(figure))
    figure = figures.sweep_curves(BETWEEN, {"a": sweep(BETWEEN, 3, 0.5)}, digit=3, low=4, high=5)
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), sweep(BETWEEN, 3, 0.5)[:, 5])
    assert figure.axes[0].texts[:] == [] and "read as 5" in words(figure)


def test_digit_map_shades_each_digit_at_its_height() -> None:
    models = sweeps(FULL, 2)
    figure = figures.digit_map(FULL, models, digit=2)
    for axes, p in zip(figure.axes, models.values(), strict=False):
        (mesh,) = axes.collections
        np.testing.assert_array_equal(mesh.get_array().reshape(10, 181), p.T)
        assert mesh.get_clim() == (0, 1)
        corners = mesh.get_coordinates()  # the cell of digit 4 and addend 1 holds the point (1, 4)
        column = int(np.argmin(np.abs(FULL - 1)))
        assert (corners[4, column] < (1, 4)).all() and (corners[5, column + 1] > (1, 4)).all()
        assert not axes.yaxis_inverted()
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_ydata() - line.get_xdata(), 2)
    alone = figures.digit_map(FULL, {"": models[NAMES[0]]})
    assert len(alone.axes) == 2 and not alone.axes[0].lines and not alone.legends


def test_trade_off_names_each_point() -> None:
    (axes,) = figures.trade_off(POINTS).axes
    for line, rows in zip(axes.lines, POINTS.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [diversity for *_, diversity in rows])
        np.testing.assert_allclose(line.get_ydata(), [100 * right for _, right, _ in rows])
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [*POINTS]
    texts = [(text.get_text(), tuple(text.xy)) for text in axes.texts]
    once, *others = [[(f"{t:g}", (d, 100 * a)) for t, a, d in rows] for rows in POINTS.values()]
    same = [("0 to 1", once[-1][1])]  # points on one another share a label
    assert texts == [(text, pytest.approx(xy)) for text, xy in same + others[0] + others[1]]
    colours = [line.get_color() for line in axes.lines]
    inks = [np.array(mpl.colors.to_rgb(text.get_color())) / 0.75 for text in axes.texts]
    np.testing.assert_allclose(inks[0], mpl.colors.to_rgb(colours[0]))
    np.testing.assert_allclose(inks[-1], mpl.colors.to_rgb(colours[2]))


def test_blame_bars_divide_each_bar_as_given() -> None:
    figure = figures.blame_bars(SHARES, WRONG)
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    starts = [bar.get_x() for bar in axes.patches]
    given = np.array(list(SHARES.values())[:3])
    np.testing.assert_allclose(widths, 100 * given.ravel())
    np.testing.assert_allclose(starts, 100 * (given.cumsum(1) - given).ravel(), atol=1e-9)
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    written = [text.get_text() for text in axes.texts]
    assert written == [f"{100 * part:.1f} %" for part in given.ravel()] + ["no sum is wrong"]
    assert axes.yaxis_inverted()  # the first model is on top
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "autoencoder\n0.7 % of sums wrong"
    assert labels[3] == "perfect\n0 % of sums wrong"
    handles = figure.legends[0].legend_handles
    assert [handle.get_facecolor() for handle in handles] == [
        bar.get_facecolor() for bar in axes.patches[:3]
    ]
    (axes,) = figures.blame_bars({"a": (1, 0, 0)}, {"a": 0.5}).axes
    assert [text.get_text() for text in axes.texts] == ["100 %"]  # nothing beside a part of 0


def test_weightings_table_keeps_each_row_together() -> None:
    rows, pictures = weightings()
    (axes,) = weightings_table(rows, pictures, drawn="0 + 0 to 0 + 9").axes
    tops = [image.get_extent()[3] for image in axes.images]
    greys = [float(image.get_array()[0, 0]) for image in axes.images]
    np.testing.assert_allclose(greys, np.arange(160) / 255, atol=1e-6)
    assert (np.diff([image.get_extent()[0] for image in axes.images[:10]]) > 1).all()
    for i, row in enumerate(rows):
        middle = tops[10 * i] + 0.5
        assert tops[10 * i : 10 * i + 10] == [tops[10 * i]] * 10
        line = [t for t in axes.texts if t.get_position()[1] == pytest.approx(middle)]
        found = [t.get_text() for t in sorted(line, key=lambda text: text.get_position()[0])]
        assert [float(text) for text in found[:4]] == pytest.approx(row["weights"])
        assert not any("e" in text for text in found[:4])  # 0.00001, not 1e-05
        assert found[4].replace("\n", " ") == row["verdict"]
        assert float(found[5]) == pytest.approx(100 * row["accuracy"], abs=0.0501)
        assert found[6:] == [str(row["digits"]), f"{row['active']}/7"]
        track, bar = axes.patches[2 * i : 2 * i + 2]
        assert track.get_y() < middle < track.get_y() + track.get_height()
        assert bar.get_width() / track.get_width() == pytest.approx(row["accuracy"])
    assert len(axes.lines) == 3  # a rule above each verdict
    assert "0 + 0 to 0 + 9" in [text.get_text() for text in axes.texts]


def test_weights_found_by_search_keep_to_their_columns() -> None:
    rows, pictures = weightings(2)
    rows[0]["weights"] = (0.17091214, 0.054047, 1.1901078e-05, 1.0819e-06)
    (axes,) = weightings_table(rows, pictures).axes
    found = [text.get_text() for text in axes.texts]
    assert {"0.17", "0.054", "1.2e-05", "1.1e-06"} < set(found)


def test_weightings_table_takes_float_pictures() -> None:
    rows, pictures = weightings(2)
    (axes,) = weightings_table(rows, (pictures / 255).astype(np.float32)).axes
    assert float(axes.images[13].get_array()[0, 0]) == pytest.approx(13 / 255)


def test_seeds_plot_shows_every_seed_its_mean_and_deviation() -> None:
    figure = figures.seeds_plot(SEEDS, ylabel="right sums (%)")
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    for x, (dot, seeds) in enumerate(zip(dots, SEEDS.values(), strict=True)):
        assert list(dot.get_ydata()) == seeds
        assert (np.abs(dot.get_xdata() - x) < 0.4).all()
    means = [bar.lines[0].get_ydata()[0] for bar in axes.containers]
    ends = [bar.lines[2][0].get_segments()[0][:, 1] for bar in axes.containers]
    np.testing.assert_allclose(means, [99.2, 98.2])
    np.testing.assert_allclose(ends, [[99.1, 99.3], [98.2 - 0.08**0.5, 98.2 + 0.08**0.5]])
    assert [text.get_text() for text in axes.texts] == ["99.20 ± 0.10", "98.20 ± 0.28", "97.50"]
    for text, seeds in zip(axes.texts, SEEDS.values(), strict=True):
        assert text.xy[1] >= max(seeds)
    assert axes.get_ylabel() == "right sums (%)" and "conv_transpose" in words(figure)


P = sweep(BETWEEN, 7, 0.5)
ROWS, PICTURES = weightings(2)
BAD = {
    "count": (
        lambda: figures.sweep_curves(BETWEEN[1:], {"a": P}),
        r"'a'.*\(21, 10\); .*\(20, 10\)",
    ),
    "nine digits": (lambda: figures.digit_map(BETWEEN, {"a": P[:, 1:]}), r"'a'.* is \(21, 9\)"),
    "nine images": (lambda: weightings_table(ROWS, PICTURES[:, :9]), "pictures is"),
    "rows of images": (
        lambda: weightings_table(ROWS, PICTURES[:1]),
        r"pictures\) is 1; .* 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(name: str) -> None:
    assert_refused(*BAD[name])
