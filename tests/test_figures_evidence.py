"""The figures of the evidence draw what they are given, legibly, and refuse what does not fit."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_figures import assert_refused, drawn_texts, words

from learn2add import figures

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
STRENGTHS = np.linspace(0, 0.8, 9)
MEASURES = {
    "RMSE": {name: 0.1 + 0.1 * i * STRENGTHS for i, name in enumerate(WRONG)},
    "PSNR (dB)": {name: 20 - 5 * i * STRENGTHS for i, name in enumerate(WRONG)},
    "read rightly (%)": {"perfect": 100 - STRENGTHS},
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
        "digit_map_alone": lambda: figures.digit_map(FULL, sweep(FULL, 7, 0.5), **both),
        "digit_map_of_sums": lambda: figures.digit_map(
            FULL, sweep(FULL, 0, 0.5), digit=0, xlabel="sum asked for", **both
        ),
        "trade_off": lambda: figures.trade_off(POINTS, **both),
        "strength_curves": lambda: figures.strength_curves(
            STRENGTHS, MEASURES, xlabel="standard deviation of the noise", **both
        ),
        "blame_bars": lambda: figures.blame_bars(SHARES, WRONG, **both),
        "weightings_table": lambda: figures.weightings_table(*weightings(), **both),
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
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    extent = mpl.text.Text.get_window_extent  # of the words: an annotation adds its leader
    boxes = [(t.get_text(), extent(t, renderer)) for t in drawn_texts(figure)]
    for (one, box), (other, rival) in itertools.combinations(boxes, 2):
        width = min(box.x1, rival.x1) - max(box.x0, rival.x0)
        height = min(box.y1, rival.y1) - max(box.y0, rival.y0)
        assert min(width, height) < 1.5, f"{one!r} and {other!r} overlap in {name}"
    page = figure.bbox
    for text, box in boxes:
        assert page.x0 - 6 < box.x0 and box.x1 < page.x1 + 6, f"{text!r} is cut off in {name}"
        assert page.y0 - 1 < box.y0 and box.y1 < page.y1 + 1, f"{text!r} is cut off in {name}"
    assert {"A title", CAPTION} <= set(words(figure))
    assert min(text.get_size() for text in drawn_texts(figure)) >= 8
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
    alone = figures.digit_map(FULL, models[NAMES[0]])
    assert len(alone.axes) == 2 and not alone.axes[0].lines and not alone.legends


def test_trade_off_names_each_point_and_shades_what_is_wanted() -> None:
    (axes,) = figures.trade_off(POINTS, wanted=(0.9, 0.35)).axes
    for line, rows in zip(axes.lines, POINTS.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [diversity for *_, diversity in rows])
        np.testing.assert_allclose(line.get_ydata(), [100 * right for _, right, _ in rows])
    (region,) = axes.patches
    assert region.get_xy() == pytest.approx((0.35, 90))
    far = region.get_x() + region.get_width(), region.get_y() + region.get_height()
    assert far == pytest.approx((axes.get_xlim()[1], axes.get_ylim()[1])) and far[1] >= 100
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [*POINTS, "wanted: 90 % at 0.35, or better"]
    temperatures = [(f"{t:g}", (d, 100 * a)) for rows in POINTS.values() for t, a, d in rows]
    assert [(text.get_text(), tuple(text.xy)) for text in axes.texts] == [
        (text, pytest.approx(xy)) for text, xy in temperatures
    ]


CROWD = {name: [(t / 4, 0.98 - t / 500, 0.2 + t / 400) for t in range(4)] for name in NAMES}
PARALLEL = {
    name: [
        (t / 8, 0.99 - 0.01 * row - 0.005 * t**1.5, 0.05 + 0.06 * t + 0.01 * row) for t in range(9)
    ]
    for row, name in enumerate(NAMES)
}


@pytest.mark.parametrize("series", [CROWD, PARALLEL], ids=["crowd", "parallel"])
def test_temperatures_stand_near_their_points_and_on_no_line(series: dict) -> None:
    figure = figures.trade_off(series)
    (axes,) = figure.axes
    figure.canvas.draw()
    path = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    boxes = [mpl.text.Text.get_window_extent(text) for text in axes.texts]
    for i, (text, box) in enumerate(zip(axes.texts, boxes, strict=True)):
        assert not any(box.contains(*point) for point in path)
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        start, end = axes.transData.transform(text.xy), (box.p0 + box.p1) / 2
        assert np.hypot(*(end - start)) < 80
        leader = np.linspace(start, end, 30)
        others = boxes[:i] + boxes[i + 1 :]
        assert not any(other.contains(*spot) for other in others for spot in leader)
        assert not box.count_overlaps(others)


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
    (axes,) = figures.weightings_table(rows, pictures, drawn="0 + 0 to 0 + 9").axes
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
    (axes,) = figures.weightings_table(rows, pictures).axes
    found = [text.get_text() for text in axes.texts]
    assert {"0.17", "0.054", "1.2e-05", "1.1e-06"} < set(found)


def test_weightings_table_takes_float_pictures() -> None:
    rows, pictures = weightings(2)
    (axes,) = figures.weightings_table(rows, (pictures / 255).astype(np.float32)).axes
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


def test_strength_curves_give_a_model_one_look_in_every_panel() -> None:
    figure = figures.strength_curves(STRENGTHS, MEASURES, xlabel="noise")
    looks = {}
    for axes, (measure, lines) in zip(figure.axes, MEASURES.items(), strict=True):
        assert (axes.get_ylabel(), axes.get_xlabel()) == (measure, "noise")
        for line, (name, values) in zip(axes.lines, lines.items(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), values)
            looks.setdefault(name, set()).add((line.get_color(), line.get_marker()))
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == len(WRONG)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(WRONG)


def test_strength_curves_on_logarithmic_axes_say_plain_numbers() -> None:
    labels = [10, 100, 1000, 50_000]
    drawn = {"wrong (%)": {"frozen": [30.0, 10, 5, 3]}}
    figure = figures.strength_curves(labels, drawn, xlabel="labels", log="xy")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100", "1,000", "50,000"]
    assert not any("\\times" in tick.get_text() for tick in axes.get_yticklabels())


P = sweep(BETWEEN, 7, 0.5)
ROWS, PICTURES = weightings(2)
BAD = {
    "falling": (lambda: figures.sweep_curves(BETWEEN[::-1], {"a": P}), "addends"),
    "one addend": (lambda: figures.digit_map([1], P[:1]), "addends"),
    "count": (lambda: figures.sweep_curves(BETWEEN[1:], {"a": P}), r"'a'.*\(20, 10\)"),
    "nine digits": (lambda: figures.digit_map(BETWEEN, P[:, 1:]), r"probabilities .*\(21, 9\)"),
    "not shares": (lambda: figures.sweep_curves(BETWEEN, {"a": 2 * P}), "'a'.* add up to 1"),
    "negative": (lambda: figures.digit_map(BETWEEN, {"a": P - 0.1}), "'a'.* below 0"),
    "no models": (lambda: figures.sweep_curves(BETWEEN, {}), "probabilities .*1 to 4"),
    "five models": (lambda: figures.digit_map(BETWEEN, dict.fromkeys("abcde", P)), "got 5"),
    "turning": (
        lambda: figures.sweep_curves(BETWEEN, {"a": P}, turning={"b": 1.5}),
        "turning names 'b', which probabilities",
    ),
    "low": (lambda: figures.sweep_curves(BETWEEN, {"a": P}, low=10), "low must be a digit"),
    "digit": (lambda: figures.digit_map(BETWEEN, P, digit=7.5), "digit must be"),
    "low is high": (lambda: figures.sweep_curves(BETWEEN, {"a": P}, low=9), "low and high"),
    "per cent": (lambda: figures.trade_off({"a": [(1, 98, 0.2)]}), r"'a'.*\[0, 1\]"),
    "pairs": (lambda: figures.trade_off({"a": [(1, 0.98)]}), r"'a'.*\[N, 3\]"),
    "no points": (lambda: figures.trade_off({"a": []}), "'a'"),
    "not by name": (lambda: figures.trade_off([(1, 0.98, 0.2)]), "series must map"),
    "wanted": (lambda: figures.trade_off(POINTS, wanted=(95, 0.3)), "wanted"),
    "two parts": (lambda: figures.blame_bars({"a": (0.5, 0.5)}, {"a": 0.1}), "shares"),
    "sum of parts": (lambda: figures.blame_bars({"a": (0.5, 0.5, 0.5)}, {"a": 0.1}), "'a'.* 1"),
    "part NaN": (lambda: figures.blame_bars({"a": (NAN, 0.5, 0.5)}, {"a": 0.1}), "shares.'a'"),
    "all NaN": (lambda: figures.blame_bars({"a": (NAN,) * 3}, {"a": 0.1}), "shares.'a'"),
    "other names": (lambda: figures.blame_bars({"a": (1, 0, 0)}, {"b": 0.1}), "wrong must name"),
    "wrong": (lambda: figures.blame_bars({"a": (1, 0, 0)}, {"a": 7}), r"wrong\['a'\]"),
    "no rows": (lambda: figures.weightings_table([], PICTURES), "rows"),
    "no verdict": (
        lambda: figures.weightings_table([ROWS[0], {"weights": (1, 1, 1, 1)}], PICTURES),
        r"rows\[1\] lacks verdict",
    ),
    "three weights": (
        lambda: figures.weightings_table([{**ROWS[0], "weights": (1, 1, 1)}], PICTURES[:1]),
        r"rows\[0\]\['weights'\]",
    ),
    "active": (
        lambda: figures.weightings_table([{**ROWS[0], "active": 8}], PICTURES[:1]),
        r"rows\[0\]\['active'\] .*at most 7, got 8",
    ),
    "half a digit": (
        lambda: figures.weightings_table([{**ROWS[0], "digits": 2.5}], PICTURES[:1]),
        r"rows\[0\]\['digits'\] must be whole",
    ),
    "accuracy": (
        lambda: figures.weightings_table([{**ROWS[0], "accuracy": 99.0}], PICTURES[:1]),
        r"rows\[0\]\['accuracy'\]",
    ),
    "nine pictures": (lambda: figures.weightings_table(ROWS, PICTURES[:, :9]), "pictures"),
    "rows of pictures": (
        lambda: figures.weightings_table(ROWS, PICTURES[:1]),
        "pictures has 1 .* 2",
    ),
    "no seeds": (lambda: figures.seeds_plot({"a": []}, ylabel="x"), r"values\['a'\]"),
    "seed NaN": (lambda: figures.seeds_plot({"a": [1, NAN]}, ylabel="x"), r"values\['a'\]"),
    "seeds 2-D": (lambda: figures.seeds_plot({"a": [[1, 2]]}, ylabel="x"), r"values\['a'\]"),
    "nine columns": (
        lambda: figures.seeds_plot(dict.fromkeys("abcdefghi", [1]), ylabel="x"),
        "values .*1 to 8",
    ),
    "falling strengths": (
        lambda: figures.strength_curves([1, 0], {"a": {"b": [1, 2]}}, xlabel="x"),
        "strengths must be .* rising",
    ),
    "values per strength": (
        lambda: figures.strength_curves([0, 1], {"a": {"b": [1]}}, xlabel="x"),
        r"measures\['a'\]\['b'\] must have shape \(2,\)",
    ),
    "a logarithmic axis from zero": (
        lambda: figures.strength_curves([0, 1], {"a": {"b": [1, 2]}}, xlabel="x", log="x"),
        "strengths begin at 0",
    ),
    "a logarithmic axis of zero": (
        lambda: figures.strength_curves([1, 2], {"a": {"b": [1, 0]}}, xlabel="x", log="y"),
        "must not be below",
    ),
    "no measures": (lambda: figures.strength_curves([0, 1], {}, xlabel="x"), "1 to 4 measures"),
    "caption": (lambda: figures.seeds_plot(SEEDS, ylabel="x", caption=3), "caption"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(name: str) -> None:
    assert_refused(*BAD[name])
