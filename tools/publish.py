"""Keep a finished run in git: ``python tools/publish.py RUN part3/quick``.

The kept folder gets the run's configuration, curves and weights in eight bits; the results of these
stored weights on the test digits, ``evaluation.json``; and a sample image.
"""

import argparse
import json
import shutil
import sys
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn2add.checkpoints import (
    EIGHT_BITS_FROM,
    PACKED,
    SCALE,
    SHAPE,
    in_eight_bits,
    save_tensors,
    write_atomically,
)
from learn2add.data import as_float, load_digits
from learn2add.evidence import evaluate
from learn2add.figures.images import addition_grid, reconstructions
from learn2add.measures import add, reconstruct
from learn2add.pairs import CELLS
from learn2add.runs import Run, RunError, load, write_result
from learn2add.tensorboard import EVENT_PREFIX
from tools.pictures import save_packed

RUNS = Path(__file__).parents[1] / "runs"


def publish(
    run: Run,
    folder: str | Path,
    *,
    weights: bool = True,
    images: int = 10,
    least: int = EIGHT_BITS_FROM,
) -> Run:
    """Copy a complete run for git: weights in a byte each, images of some epochs, no state.

    ``weights=False`` keeps its configuration and curves only; ``least`` is that of
    :func:`pack_weights`.

    Raises:
        RunError: ``folder`` exists already.
        OSError: It cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise RunError(f"{folder} exists already")
    packed = pack_weights(run.model("cpu").state_dict(), least) if weights else None
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        same = run.result.get("same_as")
        kept = same is not None and (folder.with_name(same) / "weights.safetensors").exists()
        if packed is not None and not kept:
            facts = {"epoch": run.result["best_epoch"]}
            save_tensors(partial / "weights.safetensors", packed, facts)
        for file in ("config.json", "metrics.csv"):
            shutil.copy(run.folder / file, partial)
        for file in run.folder.glob(f"{EVENT_PREFIX}*"):
            copy_events(file, partial / file.name, images)
        result = run.result | ({"weights": "int8"} if weights else {})
        write_result(partial, result)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load(folder)


def pack_weights(tensors: dict[str, Tensor], least: int = EIGHT_BITS_FROM) -> dict[str, Tensor]:
    """Return weights in little less than a byte each; ``checkpoints.unpack_weights`` reads them.

    Each row of a large tensor becomes int8, its largest element 127, and one float32 scale. Small
    weights are the frequent ones, so deflating the bytes saves another tenth. Tensors of fewer than
    ``least`` elements become float16. The kept run of code size 2 draws with an RMSE of 0.1834, not
    0.1833.
    """
    found = {}
    for name, tensor in tensors.items():
        if tensor.numel() < least:
            found[name] = tensor.half()
            continue
        steps, scale = in_eight_bits(tensor)
        packed = bytearray(zlib.compress(steps.numpy().tobytes(), 9))
        found[name + PACKED] = torch.frombuffer(packed, dtype=torch.uint8)
        found[name + SCALE] = scale[:, 0]
        found[name + SHAPE] = torch.tensor(tensor.shape)
    return found


def copy_events(source: Path, target: Path, images: int = 10) -> None:
    """Copy an event file with the images of at most so many epochs, evenly spaced, the last too.

    All else is copied as it is. Images are nearly all that an event file weighs.
    """
    events = [Event.FromString(raw) for raw in RawEventFileLoader(str(source)).Load()]
    steps = sorted({e.step for e in events if any(v.HasField("image") for v in e.summary.value)})
    every = -(-len(steps) // images) if steps else 1
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


def sample(run: Run, file: Path) -> None:
    """Draw what the run can do with the first test digit of each class."""
    test = load_digits(run.config.dataset, "test").resized(run.config.image_size)
    first = torch.tensor([int(members[0]) for members in test.by_class()])
    model, caption = run.model("cpu"), "First test digit of each class."
    if run.config.adds:
        digit, addend = torch.tensor(CELLS).T
        drawn = add(model, test.images[first[digit]], addend.float())
        grid: list[list[Tensor | None]] = [[None] * 10 for _ in range(10)]
        for (d, a), image in zip(CELLS, drawn, strict=True):
            grid[d][a] = image[0]
        figure = addition_grid(grid, caption=caption)
    else:
        digits = test.images[first]
        rows = {"reconstruction": reconstruct(model, digits)[:, 0]}
        figure = reconstructions(as_float(digits)[:, 0], rows, caption=caption)
    save_packed(figure, file)


def main(argv: Sequence[str] | None = None) -> None:
    """Publish, evaluate, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="its name under runs/, such as part3/quick")
    parser.add_argument("--no-weights", action="store_true", help="the figures are then the run's")
    arguments = parser.parse_args(argv)
    run, weights = load(arguments.run), not arguments.no_weights
    kept = publish(run, RUNS / arguments.name, weights=weights)
    measured = kept if weights else run
    found = json.dumps(evaluate(measured), indent=2)
    write_atomically(kept.folder / "evaluation.json", found + "\n")
    if "same_as" not in run.result:  # a copy draws what its original draws
        sample(measured, kept.folder / "sample.png")
    print(found)


if __name__ == "__main__":
    main()
