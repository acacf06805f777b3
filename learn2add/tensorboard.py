"""The curves of a run: ``metrics.csv`` for reading, a TensorBoard event file for browsing.

Runs share their tags (``loss/train``, ``rmse/validation``, ...), so TensorBoard lays the runs of a
folder over one another.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from learn2add.checkpoints import write_atomically
from learn2add.network import parameter_count

EVENT_PREFIX = "events.out.tfevents."


class Tracker:
    """Writes one run's event file; use as a context manager.

    ``resume_at`` is the epoch of the run to continue from; TensorBoard hides later events of an
    earlier, cut-off file. At the start of a run the model's size is written.
    """

    def __init__(self, folder: Path, model: nn.Module, resume_at: int = 0) -> None:
        self.folder = Path(folder)
        rename_event_files(self.folder)  # of a training that was killed
        self.writer = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)
        if not resume_at:
            self._model_size(model)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.writer.close()
        rename_event_files(self.folder)

    def epoch(self, row: Mapping[str, Any], epoch: int, images: Mapping[str, Tensor]) -> None:
        """Write the row's figures and grey images ``[1, H, W]`` in [0, 1], and flush."""
        for name, value in row.items():
            if "/" in name or name == "learning_rate":
                self.writer.add_scalar(name, value, epoch)
        for name, image in images.items():
            self.writer.add_image(name, image, epoch)
        self.writer.flush()

    def _model_size(self, model: nn.Module) -> None:
        """Write how many parameters each part of the model has."""
        sizes = {name: parameter_count(part) for name, part in model.named_children()}
        sizes["total"] = parameter_count(model)
        rows = "\n".join(f"| {name} | {size:,} |" for name, size in sizes.items())
        self.writer.add_text("model/parameters", f"| part | parameters |\n|---|---|\n{rows}")
        self.writer.add_scalar("model/parameters", sizes["total"])


def add_hyper_parameters(
    writer: SummaryWriter, flat: Mapping[str, Any], row: Mapping[str, Any]
) -> None:
    """Write the HPARAMS tab's row: the configuration ``flat`` and the best epoch's figures.

    ``SummaryWriter.add_hparams`` would open a second, time-stamped run for them.
    """
    plain = bool | int | float | str
    values = {k: v if isinstance(v, plain) else str(v or "") for k, v in flat.items()}
    # Below the curves in the alphabet: a dot each.
    figures = {
        f"summary/best_{name.partition('/')[0]}": value
        for name, value in row.items()
        if "/validation" in name
    }
    for summary in hparams(values, figures):
        writer.file_writer.add_summary(summary)
    for name, value in figures.items():
        writer.add_scalar(name, value)


def rename_event_files(folder: Path) -> None:
    """Take time, machine name and process out of the event files' names, keeping their order."""
    files = sorted(folder.glob(f"{EVENT_PREFIX}*"), key=lambda file: file.stat().st_mtime_ns)
    named = [file for file in files if file.suffix == ".learn2add"]  # these keep their names
    taken = max((int(file.name.split(".")[3]) for file in named), default=-1)
    for number, file in enumerate((file for file in files if file not in named), taken + 1):
        file.rename(folder / f"{EVENT_PREFIX}{number:010d}.learn2add")


def write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    """Write one row per epoch; a figure that a stage does not have is left blank."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_atomically(path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read what :func:`write_metrics` wrote: numbers as numbers, blanks left out.

    Raises:
        ValueError: A line is cut short or too long, a figure is no number, an epoch is missing.
    """
    text = Path(path).read_text(encoding="utf-8")
    columns, *rows = csv.reader(io.StringIO(text, newline=""))
    if not text.endswith("\n") or any(len(row) != len(columns) for row in rows):
        raise ValueError("a line is cut short or too long")
    history = [
        {name: _number(name, text) for name, text in zip(columns, row, strict=True) if text != ""}
        for row in rows
    ]
    if [row.get("epoch") for row in history] != list(range(1, len(history) + 1)):
        raise ValueError("the epochs are not 1, 2, 3, ...")
    return history


def _number(name: str, text: str) -> str | int | float:
    if name == "task":
        return text
    return int(text) if name in ("stage", "epoch") else float(text)
