"""What ``learn2add evaluate`` prints: the figures of a run, laid out for reading."""

from typing import Any

from learn2add.runs import Run


def report(run: Run, found: dict[str, Any]) -> str:
    """Lay the figures of :func:`learn2add.evaluation.evaluate` out for reading."""
    config = run.config
    size = config.image_size
    lines = [
        f"{run.folder}: {config.model}, {config.decoder}, code {config.code_size}, "
        f"{config.dataset} {size} x {size}, {found['split']} digits",
        "",
        f"{'RMSE of reconstruction':34}{found['rmse']:8.4f}    grey levels, 0 to 1",
    ]

    def share(title: str, key: str) -> None:
        low, high = (100 * end for end in found[f"{key}_interval"])
        lines.append(f"{title:34}{100 * found[key]:8.2f} %  {low:.2f} to {high:.2f} %")

    if "cells_mean" in found:
        digit, addend = found["cells_worst_cell"]
        lines += ["", f"{'Right sums, as the judge reads':46}95 % interval"]
        share("  mean over the 55 cells", "cells_mean")
        share("  mean over all pairs", "pairs_mean")
        share(f"  worst cell, {digit} + {addend}", "cells_worst")
        lines += ["", f"{'MSE of the sum picture':34}{found['sum_mse']:8.4f}    beside its floors:"]
        for key, title, meaning in (
            (
                "floor_class_mean",
                "class mean",
                "the right digit's blurred mean: the best there is",
            ),
            ("floor_one_mean", "one mean", "one picture for every sum: knows nothing"),
            ("real_digit", "real digit", "another, real picture of the right digit"),
        ):
            lines.append(f"{'  ' + title:34}{found[key]:8.4f}    {meaning}")
        lines += ["", *evidence_report(found)]
    if "judge_accuracy" in found:
        accuracy = 100 * found["judge_accuracy"]
        lines += ["", f"{'Judge on the real digits':34}{accuracy:8.2f} %"]
    return "\n".join(lines)


def evidence_report(found: dict[str, Any]) -> list[str]:
    """The part of the report on a model that adds which says more than right or wrong."""
    lines = []
    if found["misread"] is not None:
        shares = {
            name: f"{100 * found[name]:.0f} %" for name in ("misread", "misadded", "misdrawn")
        }
        lines.append("Wrong sums are " + ", ".join(f"{n} {share}" for n, share in shares.items()))
    if found["held_out_cells_mean"] is not None:
        mean = 100 * found["held_out_cells_mean"]
        lines.append(f"{'Cells never trained, mean':34}{mean:8.2f} %")
    if found["u50"] is None:
        lines.append("7 + u never turns from 8 to 9")
    else:
        turn, width = found["u50"], found["u50_width"]
        lines.append(
            f"{'7 + u turns from 8 to 9 at u =':34}{turn:8.3f}    10 to 90 % within {width:.3f}"
        )
    lines += ["", f"{'Samples: temperature':24}{'right':>9}{'variety':>10}{'Fréchet distance':>19}"]
    for sample in found["samples"]:
        right, various = 100 * sample["accuracy"], sample["diversity"]
        lines.append(
            f"{sample['temperature']:24.1f}{right:7.2f} %{various:10.3f}{sample['frechet']:19.2f}"
        )
    lines.append("variety: pixel variance within a cell, over that of real digits of the sum")
    return lines
