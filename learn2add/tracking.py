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

EVENT_PREFIX = "events.out.tfevents."


class Tracker:
    """Writes one run's event file; use as a context manager.

    Args:
        folder: The run's folder.
        model: Its size is written once, at the start of the run.
        resume_at: Global epoch to continue from; later events of an earlier, cut-off file are
            hidden by TensorBoard.

    Raises:
        OSError: The folder cannot be written.
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

    def epoch(self, row: Mapping[str, Any], epoch: int, pictures: Mapping[str, Tensor]) -> None:
        """Write the row's figures and grey pictures ``[1, H, W]`` in [0, 1], and flush."""
        for name, value in row.items():
            if "/" in name or name == "learning_rate":
                self.writer.add_scalar(name, value, epoch)
        for name, picture in pictures.items():
            self.writer.add_image(name, picture, epoch)
        self.writer.flush()

    def _model_size(self, model: nn.Module) -> None:
        """Write how many parameters each part of the model has."""
        sizes = {name: parameter_count(part) for name, part in model.named_children()}
        sizes["total"] = parameter_count(model)
        rows = "\n".join(f"| {name} | {size:,} |" for name, size in sizes.items())
        self.writer.add_text("model/parameters", f"| part | parameters |\n|---|---|\n{rows}")
        self.writer.add_scalar("model/parameters", sizes["total"])

    def hyper_parameters(self, flat: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Write the HPARAMS tab's row: the configuration and the best epoch's figures."""
        _add_hyper_parameters(self.writer, flat, row)


def write_hyper_parameters(folder: Path, flat: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Write the HPARAMS tab's row of a training that was given up.

    Args:
        folder: The run's.
        flat: Its configuration.
        row: Its best epoch's figures.
    """
    writer = SummaryWriter(str(folder))
    _add_hyper_parameters(writer, flat, row)
    writer.close()
    rename_event_files(folder)


def _add_hyper_parameters(
    writer: SummaryWriter, flat: Mapping[str, Any], row: Mapping[str, Any]
) -> None:
    """``SummaryWriter.add_hparams`` would open a second, time-stamped run for them."""
    plain = bool | int | float | str
    values = {k: v if isinstance(v, plain) else str(v or "") for k, v in flat.items()}
    figures = {f"best/{name}": value for name, value in row.items() if "/validation" in name}
    for summary in hparams(values, figures):
        writer.file_writer.add_summary(summary)
    for name, value in figures.items():
        writer.add_scalar(name, value)


def parameter_count(module: nn.Module) -> int:
    """Number of trained numbers in a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def rename_event_files(folder: Path) -> None:
    """Take time, machine name and process out of the event files' names, keeping their order."""
    files = sorted(folder.glob(f"{EVENT_PREFIX}*"), key=lambda file: file.stat().st_mtime_ns)
    named = [file for file in files if file.suffix == ".learn2add"]  # these keep their names
    taken = max((int(file.name.split(".")[3]) for file in named), default=-1)
    for number, file in enumerate((file for file in files if file not in named), taken + 1):
        file.rename(folder / f"{EVENT_PREFIX}{number:010d}.learn2add")


def copy_events(source: Path, target: Path, pictures: int = 10) -> None:
    """Copy an event file with the pictures of at most so many epochs, evenly spaced, the last among
    them; all else is copied as it is. Pictures are nearly all that an event file weighs.
    """
    # Loaded only where a run is kept; it takes a second.
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = [Event.FromString(raw) for raw in RawEventFileLoader(str(source)).Load()]
    steps = sorted({e.step for e in events if any(v.HasField("image") for v in e.summary.value)})
    every = -(-len(steps) // pictures) if steps else 1
    shown = set(steps[::-1][::every])
    with open(target, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            seen = [v for v in event.summary.value if not v.HasField("image")]
            if event.step not in shown and len(seen) < len(event.summary.value):
                del event.summary.value[:]
                event.summary.value.extend(seen)
                if not seen:
                    continue
            writer.write(event.SerializeToString())


def write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    """Write one row per epoch; a figure that a stage does not have is left blank."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in history:
        rounded = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(rounded)
    write_atomically(path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read what :func:`write_metrics` wrote: numbers as numbers, blanks left out.

    Raises:
        ValueError: A line is cut short or too long, a figure is no number, an epoch is missing.
        OSError: It cannot be read.
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
