"""The figures draw real digits: what stands where, what is written, what is refused."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_checks import assert_legible, assert_refused, words
from matplotlib.figure import Figure

from learn2add import figures
from learn2add.course.scheme import scheme
from learn2add.data import load_digits
from learn2add.figures.charts import apart

pytestmark = pytest.mark.filterwarnings("error")
CELLS = [(digit, addend) for digit in range(10) for addend in range(10 - digit)]
BLANKS = [(digit, addend) for digit in range(10) for addend in range(10 - digit, 10)]
CAPTION = "quick budget, seed 0, MNIST test set"


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits("MNIST", "test")
    return data.images.numpy(), data.labels.numpy()


@pytest.fixture(autouse=True)
def _no_setting_is_left() -> Iterator[None]:
    with mpl.rc_context():
        yield


def first_of(digits: tuple[np.ndarray, np.ndarray], digit: int, count: int = 1) -> np.ndarray:
    images, labels = digits
    return images[labels == digit][:count]


def sum_pictures(digits: tuple[np.ndarray, np.ndarray]) -> list[list[np.ndarray | None]]:
    """A perfect model: ``[digit][addend]`` is a real picture of the sum, in each cell another."""
    pick = {total: first_of(digits, total, 10) for total in range(10)}
    return [
        [pick[digit + addend][digit] if digit + addend <= 9 else None for addend in range(10)]
        for digit in range(10)
    ]


def cell_accuracy() -> np.ndarray:
    """Different in every cell, so that a swapped axis cannot pass unseen."""
    share = np.full((10, 10), np.nan)
    for rank, (digit, addend) in enumerate(CELLS):
        share[digit, addend] = 0.995 - rank / 1000
    share[3, 5] = 1.0
    share[9, 0] = 0.9371
    return share


def pair_counts(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Every real test digit once with each addend it allows."""
    per_digit = np.bincount(digits[1], minlength=10)
    counts = np.zeros((10, 10), int)
    for digit, addend in CELLS:
        counts[digit, addend] = per_digit[digit]
    return counts


def runs(epochs: int = 12) -> dict[str, dict[str, np.ndarray]]:
    epoch = np.arange(1, epochs + 1)
    return {
        name: {
            "epoch": epoch,
            "train": train + 0.08 / epoch,
            "validation": validation + 0.07 / epoch + 0.0002 * epoch,
        }
        for name, train, validation in [
            ("transpose", 0.1745, 0.1757),
            ("upsample", 0.1762, 0.1755),
            ("interpolation", 0.1765, 0.1749),
        ]
    }


REPORT = {"report, transpose": 0.1839, "report, upsample": 0.1834, "report, interpolation": 0.1814}


def gallery(digits: tuple[np.ndarray, np.ndarray]) -> dict[str, Callable[[], Figure]]:
    """Each figure as the notebooks use it, by name."""
    images, labels = digits
    five, share, both = images[:5], cell_accuracy(), {"title": "A title", "caption": CAPTION}
    sums = np.concatenate([first_of(digits, total) for total in (8, 9, 8, 8, 9)])
    low, high = np.clip(share - 0.012, 0, 1), np.clip(share + 0.004, 0, 1)
    return {
        "image_grid": lambda: figures.image_grid(
            images[:14], titles=[f"label {label}" for label in labels[:14]], **both
        ),
        "pairs_strip": lambda: figures.pairs_strip(five, [1, 2, 0, 9, 1.5], sums, **both),
        "reconstructions": lambda: figures.reconstructions(
            five, {"L2\nRMSE 0.132": five / 255, "BCE\nRMSE 0.135": five / 300}, **both
        ),
        "strip": lambda: figures.strip(
            np.stack([sums, sums]),
            ["+ 1", "+ 2", "+ 1.4", "+ 1.5", "+ 1.6"],
            first=first_of(digits, 7, 2),
            notes=[["reads 8 (0.99)"] * 5] * 2,
            rows=["autoencoder\n(Part III)", "generative adder\n(Part IV)"],
            **both,
        ),
        "addition_grid": lambda: figures.addition_grid(
            sum_pictures(digits), misread=np.eye(10, dtype=bool), **both
        ),
        "cell_map": lambda: figures.cell_map(share, low, high, **both),
        "sum_distribution": lambda: figures.sum_distribution(pair_counts(digits), **both),
        "curves": lambda: figures.curves(runs(), ylabel="RMSE", references=REPORT, **both),
        "curves_of_one_epoch": lambda: figures.curves(runs(1), ylabel="RMSE", **both),
        "side_by_side": lambda: figures.side_by_side({"a": images[0], "b": images[1]}, **both),
        "lines": lambda: figures.lines(
            {"One": {"a": ([0, 1], [0, 2])}, "Two": {"b": ([0, 1], [2, 0])}},
            xlabel=["x", "x"],
            ylabel=["y", "y"],
            **both,
        ),
        "scheme": lambda: scheme("addition", {"x": images[0], "y_hat": images[1]}, **both),
        "floors_bar": lambda: figures.floors_bar(
            {"this model": 0.0561, "sharp digit": 0.0862},
            {"class mean": 0.0530, "one mean": 0.0674},
            **both,
        ),
    }


NAMES = list(gallery((np.zeros((99, 28, 28), np.uint8), np.arange(99) % 10)))


def at(axes: mpl.axes.Axes, x: float, y: float, reach: float = 0.4) -> list[str]:
    """What is written around a point, from top to bottom."""
    placed = [t for t in axes.texts if t.get_transform() == axes.transData]
    near = [t for t in placed if np.abs(np.subtract(t.get_position(), (x, y))).max() < reach]
    return [t.get_text() for t in sorted(near, key=lambda text: text.get_position()[1])]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overlaps_and_the_caption_is_there(digits: tuple, name: str) -> None:
    assert_legible(gallery(digits)[name](), "A title", CAPTION)


@pytest.mark.parametrize("name", NAMES)
def test_drawing_leaves_settings_and_stays_small(digits: tuple, name: str, tmp_path: Path) -> None:
    mpl.rcParams["font.size"] = 23
    before = dict(mpl.rcParams)
    figure = gallery(digits)[name]()
    assert dict(mpl.rcParams) == before
    path = figures.save_png(figure, tmp_path / "new" / f"{name}.png")
    assert path.stat().st_size < 115_000
    assert 150 < plt.imread(path).shape[1] < 1150


def test_image_grid_places_every_digit(digits: tuple) -> None:
    images, labels = digits
    figure = figures.image_grid(images[:7], columns=3, titles=[str(n) for n in labels[:7]])
    (axes,) = figure.axes
    assert len(axes.images) == 7
    for i, drawn in enumerate(axes.images):
        np.testing.assert_allclose(drawn.get_array() * 255, images[i], atol=1e-3)
    assert drawn.to_rgba(0.0)[:3] == (0, 0, 0) and drawn.to_rgba(1.0)[:3] == (1, 1, 1)
    corners = np.array([image.get_extent()[::3] for image in axes.images])  # left, top
    assert len(set(corners[:, 0].round(6))) == 3 and len(set(corners[:, 1].round(6))) == 3
    assert (corners[0] < corners[4]).all() and corners[6, 0] == corners[0, 0]
    left, top = corners[4]
    assert at(axes, left + 0.5, top) == [str(labels[4])]


def test_tensors_with_a_channel_are_read_as_they_are(digits: tuple) -> None:
    batch = torch.as_tensor(digits[0][:4])[:, None].float() / 255
    (axes,) = figures.image_grid(batch).axes
    for drawn, image in zip(axes.images, digits[0], strict=False):
        np.testing.assert_allclose(drawn.get_array() * 255, image, atol=1e-3)


def test_pairs_strip_shows_input_addend_target(digits: tuple) -> None:
    inputs = np.concatenate([first_of(digits, d) for d in (5, 7, 3)])
    targets = np.concatenate([first_of(digits, d) for d in (9, 8, 1)])
    (axes,) = figures.pairs_strip(inputs, [4, 1.5, -2], targets, columns=2).axes
    drawn = [image.get_array() * 255 for image in axes.images]
    np.testing.assert_allclose(drawn[::2], inputs, atol=1e-3)
    np.testing.assert_allclose(drawn[1::2], targets, atol=1e-3)
    lefts = [image.get_extent()[0] for image in axes.images]
    sums = [t for t in axes.texts if "=" in t.get_text()]
    assert [t.get_text() for t in sums] == ["+ 4 =", "+ 1.5 =", "\N{MINUS SIGN} 2 ="]
    assert lefts[0] + 1 < sums[0].get_position()[0] < lefts[1]


def test_reconstructions_stack_labelled_rows_below_the_originals(digits: tuple) -> None:
    five = digits[0][:5]
    figure = figures.reconstructions(five, {"L2": five / 510, "BCE": five / 1020})
    (axes,) = figure.axes
    rows = np.reshape(axes.images, (3, 5))
    for row, scale in zip(rows, (1, 2, 4), strict=True):
        for drawn, image in zip(row, five, strict=True):
            np.testing.assert_allclose(drawn.get_array() * 255 * scale, image, atol=1e-2)
    tops = [row[0].get_extent()[3] for row in rows]
    assert tops == sorted(tops)
    heights = {t.get_text(): t.get_position()[1] for t in axes.texts}
    assert [heights[label] - 0.5 for label in ("input", "L2", "BCE")] == pytest.approx(tops)


def test_strip_puts_the_input_first_and_notes_below(digits: tuple) -> None:
    seven, sums = first_of(digits, 7)[0], digits[0][:3]
    figure = figures.strip(sums, ["+ 1", "+ 2", "+ 1.4"], first=seven, notes=["8", "9", "8 (0.61)"])
    (axes,) = figure.axes
    assert len(axes.images) == 4
    np.testing.assert_allclose(axes.images[0].get_array() * 255, seven, atol=1e-3)
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts[1] - lefts[0] > lefts[2] - lefts[1]
    bottom = axes.images[3].get_extent()[2]
    assert at(axes, lefts[3] + 0.5, bottom) == ["8 (0.61)"]
    assert at(axes, lefts[3] + 0.5, bottom - 1) == ["+ 1.4"]
    assert at(axes, 0.5, bottom - 1) == ["input"]


def test_addition_grid_is_the_display_of_the_handout(digits: tuple) -> None:
    pictures = sum_pictures(digits)
    misread = np.zeros((10, 10), bool)
    misread[2, 4] = misread[9, 9] = True
    figure = figures.addition_grid(pictures, misread=misread)
    (axes,) = figure.axes
    sheet = axes.images[0].get_array()
    handout = np.zeros((280, 280))  # black where the sum exceeds 9
    for digit, addend in CELLS:
        rows, columns = slice(28 * addend, 28 * addend + 28), slice(28 * digit, 28 * digit + 28)
        handout[rows, columns] = pictures[digit][addend] / 255
    np.testing.assert_allclose(sheet, handout, atol=1e-6)
    for axis in (axes.xaxis, axes.yaxis):
        assert list(axis.get_ticklocs()) == [28 * i + 13.5 for i in range(10)]
        labels = [t.get_text() for t in axis.get_ticklabels() if t.get_visible()]
        assert labels == [str(i) for i in range(10)] * (2 if axis is axes.xaxis else 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input digit", "added value")
    (frame,) = axes.patches
    assert 28 * 2 - 0.5 <= frame.get_x() <= 28 * 2 + 2
    assert 28 * 4 - 0.5 <= frame.get_y() <= 28 * 4 + 2
    assert "framed: read as another digit (1 of 55)" in words(figure)


def test_cell_map_writes_each_percentage_in_its_cell() -> None:
    share = cell_accuracy()
    figure = figures.cell_map(share, share - 0.02, np.minimum(share + 0.001, 1))
    axes = figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, 100 * share.T)
    for digit, addend in CELLS:
        value, interval = at(axes, digit, addend)
        assert float(value) == pytest.approx(100 * share[digit, addend], abs=0.0501)
        low, high = map(float, interval.split("\N{EN DASH}"))
        assert low == pytest.approx(100 * share[digit, addend] - 2, abs=0.0501)
        assert high == pytest.approx(min(100 * share[digit, addend] + 0.1, 100), abs=0.0501)
    assert all(at(axes, *cell) == [] for cell in BLANKS)
    assert at(axes, 3, 5)[0] == "100"
    assert f"mean over the 55 cells {100 * np.nanmean(share):.1f} %" in words(figure)
    assert "worst, 9 + 0: 93.7 %" in words(figure)
    (frame,) = axes.patches
    assert abs(frame.get_x() - 8.5) < 0.1 and abs(frame.get_y() + 0.5) < 0.1
    assert axes.images[0].get_clim() == (90, 100)


def test_sum_distribution_adds_up(digits: tuple) -> None:
    counts = pair_counts(digits)
    figure = figures.sum_distribution(counts)
    cells, bars = figure.axes
    expected = [sum(counts[d, total - d] for d in range(total + 1)) for total in range(10)]
    assert [bar.get_height() for bar in bars.patches] == expected
    assert sum(expected) == counts.sum()
    shown = np.ma.filled(cells.images[0].get_array(), 0)
    np.testing.assert_array_equal(shown, counts.T)
    for digit, addend in CELLS:
        assert at(cells, digit, addend) == [f"{counts[digit, addend]:,}"]
    assert all(at(cells, *cell) == [] for cell in BLANKS)
    (even,) = bars.lines
    assert set(even.get_ydata()) == {counts.sum() / 10}
    share = 100 * expected[4] / counts.sum()
    assert f"{expected[4]:,}\n{share:.1f} %" in words(figure)


def test_curves_draw_both_sets_and_name_the_best_epoch() -> None:
    series = runs()
    figure = figures.curves(series, ylabel="RMSE", references=REPORT)
    (axes,) = figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 12]
    for i, run in enumerate(series.values()):
        train, validation = lines[2 * i : 2 * i + 2]
        np.testing.assert_array_equal(train.get_ydata(), run["train"])
        np.testing.assert_array_equal(validation.get_ydata(), run["validation"])
        assert (train.get_linestyle(), validation.get_linestyle()) == ("--", "-")
        assert train.get_color() == validation.get_color()
    assert len({line.get_color() for line in lines}) == 3
    for name, run in series.items():
        assert f"{name}  {min(run['validation']):.4f}" in words(figure)
        dots = [line for line in axes.lines if list(line.get_ydata()) == [min(run["validation"])]]
        assert [list(dot.get_xdata()) for dot in dots] == [
            [run["epoch"][list(run["validation"]).index(min(run["validation"]))]]
        ]
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert levels == list(REPORT.values())
    assert {f"{name}  {value:.4f}" for name, value in REPORT.items()} <= set(words(figure))


def test_curves_show_a_single_epoch() -> None:
    (axes,) = figures.curves(runs(1), ylabel="RMSE").axes
    assert all(line.get_marker() not in (None, "None") for line in axes.lines)
    left, right = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if left <= tick <= right] == [1]


def test_labels_move_apart_no_further_than_they_must() -> None:
    wanted = np.array([0.50, 0.10, 0.52, 0.51, 0.9])
    placed = apart(wanted, 0.05)
    assert list(np.argsort(placed)) == list(np.argsort(wanted))
    assert np.diff(np.sort(placed)).min() >= 0.05 - 1e-12
    np.testing.assert_allclose(placed, [0.46, 0.10, 0.56, 0.51, 0.9])


def test_floors_bar_sorts_models_among_floors() -> None:
    figure = figures.floors_bar({"model": 0.0561}, {"one mean": 0.0674, "class mean": 0.053})
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["class mean", "model", "one mean"] and axes.yaxis_inverted()
    assert [bar.get_width() for bar in axes.patches] == [0.053, 0.0561, 0.0674]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[2] != colours[1]
    assert sorted(line.get_xdata()[0] for line in axes.lines) == [0.053, 0.0674]
    assert {"0.0530", "0.0561", "0.0674"} <= set(words(figure))


FIVE = np.zeros((5, 28, 28))
SHARE = cell_accuracy()
RUN = {"epoch": [1, 2], "train": [0.3, 0.2], "validation": [0.3, 0.2]}
GRID = [[FIVE[0] if a + d <= 9 else None for a in range(10)] for d in range(10)]
BAD = {
    "a single image": (
        lambda: figures.image_grid(FIVE[0]),
        r"images is \(28, 28\); allowed is \[N",
    ),
    "not square": (lambda: figures.image_grid(FIVE[:, :20]), r"images is \(5, 20, 28\)"),
    "three channels": (lambda: figures.image_grid(np.zeros((2, 3, 28, 28))), "images is"),
    "0 to 255 as float": (lambda: figures.image_grid(FIVE + 255.0), r"images is .*255.*\[0, 1\]"),
    "NaN pixel": (lambda: figures.image_grid(FIVE * np.nan), "images is .*nan"),
    "titles": (lambda: figures.image_grid(FIVE, titles=["a"]), r"len\(titles\) is 1; .* 5"),
    "columns": (lambda: figures.image_grid(FIVE, columns=0), "columns"),
    "addends": (lambda: figures.pairs_strip(FIVE, [1, 2], FIVE), r"addends is \(2,\); .* \(5,\)"),
    "targets": (lambda: figures.pairs_strip(FIVE, [1] * 5, FIVE[:4]), r"targets\) is 4; .* 5"),
    "row length": (lambda: figures.reconstructions(FIVE, {"L2": FIVE[:3]}), "'L2'.* 3; .* 5"),
    "strip titles": (lambda: figures.strip(FIVE, ["a", "b"]), r"images is \(5, 28, 28\)"),
    "strip notes": (lambda: figures.strip(FIVE, list("abcde"), notes=["a"]), r"notes\) is 1; .* 5"),
    "strip rows": (lambda: figures.strip(FIVE, list("abcde"), rows=["a", "b"]), r"rows\) is 2"),
    "grid hole": (lambda: figures.addition_grid([[None] * 10] * 10), "pictures"),
    "misread": (lambda: figures.addition_grid(GRID, misread=np.ones(10)), "misread"),
    "map per cent": (
        lambda: figures.cell_map(100 * SHARE),
        "accuracy is .*; allowed is from 0 to 1",
    ),
    "map hole": (lambda: figures.cell_map(SHARE * np.nan), "accuracy"),
    "map low alone": (lambda: figures.cell_map(SHARE, SHARE), "high"),
    "counts beyond": (lambda: figures.sum_distribution(np.ones((10, 10))), "counts .* exceeds 9"),
    "nine runs": (
        lambda: figures.curves({str(i): RUN for i in range(9)}, ylabel="RMSE"),
        r"len\(series\) .*1 to 8",
    ),
    "unequal run": (
        lambda: figures.curves({"a": {**RUN, "train": [1]}}, ylabel="RMSE"),
        r"'a'.*'train'.* is \(1,\); allowed is \(2,\)",
    ),
    "network unknown": (lambda: scheme("transformer", {}), "network is 'transformer'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(name: str) -> None:
    assert_refused(*BAD[name])


def test_save_png_is_repeatable_and_whole_or_not_at_all(
    digits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = figures.save_png(figures.image_grid(digits[0][:3]), tmp_path / "a.png")
    content = path.read_bytes()
    assert figures.save_png(figures.image_grid(digits[0][:3]), path).read_bytes() == content

    def disk_is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_is_full)
    with pytest.raises(OSError, match=r"a\.png: No space left"):
        figures.save_png(figures.image_grid(digits[0][:5]), path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_save_png_names_what_is_wrong(digits: tuple, tmp_path: Path) -> None:
    figure = figures.image_grid(digits[0][:1])
    with pytest.raises(ValueError, match=r"a\.jpg.*\.png"):
        figures.save_png(figure, tmp_path / "a.jpg")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write .*file.a\.png"):
        figures.save_png(figure, tmp_path / "file" / "a.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_notebook_shows_each_figure_once() -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    cells = [
        "import numpy as np\nfrom learn2add import figures",
        "figures.image_grid(np.zeros((2, 28, 28)));",
        "figure = figures.image_grid(np.ones((3, 28, 28)))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client.NotebookClient(notebook, timeout=120).execute()
    shown = [[list(output.get("data", {})) for output in cell.outputs] for cell in notebook.cells]
    assert [len(outputs) for outputs in shown] == [0, 1, 1]
    assert all("image/png" in outputs[0] for outputs in shown[1:])


def test_a_figure_says_in_words_what_it_shows() -> None:
    figure = figures.curves(runs(), ylabel="RMSE", title="Two runs", caption="Validation digits.")
    assert repr(figure) == "Figure: Two runs. RMSE over epoch. Validation digits."
    assert repr(figures.image_grid(np.zeros((1, 8, 8)))) == "Figure with 1 panels"


def test_the_scheme_has_every_part_once_and_dashes_what_training_alone_needs(digits: tuple) -> None:
    x, y = digits[0][:2]
    said = words(scheme("addition", {"x": x, "y_hat": y}))
    for part in ("encoder", "decoder", "adder", "addend", "x", "y_hat", "dashed"):
        assert any(part in text for text in said), part
    assert "dashed: in training alone" not in words(scheme("autoencoder", {"x": x}))


def test_a_table_has_its_columns_under_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    figures.table(["right", "of"], {"one": ["99 %", 10], "another": ["1 %", 1000]})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "          right     of",
        "one        99 %     10",
        "another     1 %   1000",
    ]
