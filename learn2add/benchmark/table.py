"""The benchmark's one table."""

from functools import cache
from statistics import median

from learn2add.benchmark.compare import Comparison, Speed
from learn2add.benchmark.contenders import RECIPE
from learn2add.hardware import describe, matmul_rate

HEAD = (
    f"{'':21}{'images/s':>9}{'lowest to highest':>19}{'ratio':>7}{'GFLOP/s':>9}{'of matmul':>11}"
    f"{'peak MB':>9}"
)
NOTES = (
    "images/s: input pictures, median of the turns; ratio: to the usual loop in the same turn",
    "of matmul: share of the matrix product's rate in the trainer's precision; the operations are",
    "those of the network as learn2add computes it, counted by torch, the same for all peers",
)


def table(comparisons: list[Comparison], epochs: int) -> str:
    """Lay the results out for reading.

    Args:
        comparisons: One per network.
        epochs: As given to :func:`learn2add.benchmark.compare.compare`.
    """
    rate = cache(matmul_rate)
    machine = describe()
    speeds = [speed for comparison in comparisons for speed in comparison.speeds]
    precisions = sorted({speed.precision for speed in speeds}, reverse=True)
    products = ", ".join(f"{rate(name):,.0f} GFLOP/s in {name}" for name in precisions)
    lines = [
        "The same network trained in different loops: code 7, L2, Adam 0.001",
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"matrix product {products}",
        "",
        HEAD + (f"{'RMSE':>9}" if epochs else ""),
    ]
    for found in comparisons:
        flops = found.speeds[0].flops
        lines.append(
            f"{found.network}, batch {found.batch_size}, {flops / 1e6:.0f} MFLOP a picture"
        )
        lines += [_row(speed, rate(speed.precision)) for speed in found.speeds]
        lines += [f"  {name:19}missing: {why}" for name, why in found.missing.items()]
    return "\n".join([*lines, "", *_notes(comparisons, epochs)])


def _row(speed: Speed, rate: float) -> str:
    middle = median(speed.images_per_second)
    low, high = min(speed.images_per_second), max(speed.images_per_second)
    gflops = middle * speed.flops / 1e9
    line = f"  {speed.name:19}{middle:9,.0f}{f'{low:,.0f} to {high:,.0f}':>19}{speed.ratio:7.2f}"
    line += f"{gflops:9,.0f}{100 * gflops / rate:9.1f} %{speed.memory / 1e6:9,.0f}"
    return line + (f"{speed.rmse:9.4f}" if speed.rmse is not None else "")


def _notes(comparisons: list[Comparison], epochs: int) -> list[str]:
    notes = list(NOTES)
    libraries = {name for found in comparisons for name in found.libraries.values()}
    if libraries:
        notes.append(f"peers, float32, each in its own environment: {', '.join(sorted(libraries))}")
    recipes = [speed for found in comparisons for speed in found.speeds if speed.name == RECIPE]
    if recipes:
        notes += [
            f"{RECIPE}: a step compares each input picture with all its partners in the batch and",
            f"reconstructs one in four: {recipes[0].flops / 1e6:.0f} MFLOP a picture; the others "
            "take a second picture for each",
        ]
    if epochs:
        notes.append(
            f"RMSE: on validation pictures after {epochs} epochs from the same weights, in grey "
            "levels (0 to 1); of the addition model that of the sum's picture"
        )
    return notes
