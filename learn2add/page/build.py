"""Build the page: trained runs, the judge and some test digits inside one HTML file.

The networks run in the browser, in JavaScript of our own (``network.js``), on the runs' weights.
The file asks for nothing from anywhere, so it works from a disk, offline and inside a notebook.
"""

import html
import json
import zlib
from collections.abc import Sequence
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learn2add import runs
from learn2add.checkpoints import EIGHT_BITS_FROM, in_eight_bits
from learn2add.data import in_batches, load_digits
from learn2add.judge import Judge, load_judge
from learn2add.runs import Run

HERE = Path(__file__).parent
RUNS = {
    "part3/hand": (
        "counts, in your hand",
        "Its adder knows one step, “one more”, and takes it as often as the number says: follow it "
        "on the map. Its targets were digits in a hand like the input's, so it keeps yours.",
    ),
    "part3/reference": (
        "the assignment's",
        "Its adder is told the number. It draws the average of all ways to write the sum.",
    ),
    "part4/generative": (
        "generative",
        "The code of a sum is a distribution: ask for another one, and it is written otherwise.",
    ),
}
"""The runs that the page shows, each with its title and what is said of it. A fourth would not fit
into the 8 MB that a phone loads gladly: the weights of one are 2 MB, and hardly compress."""
EXAMPLES = 4
"""Test digits of each class."""
POINTS = 600
"""Validation digits on the map of codes."""


def build(names: Sequence[str] = tuple(RUNS)) -> str:
    """Return the page for some runs that add, by name or folder, as HTML.

    Raises:
        ValueError: There is none, or one is not an addition model of images of 28 x 28 pixels.
        RunError: There is no such run.
    """
    found = [checked(name) for name in names]
    if not found:
        raise ValueError("runs is empty; allowed is one run that adds, or more")
    models, blocks = [], []
    for index, (name, run) in enumerate(zip(names, found, strict=True)):
        model = run.model("cpu")
        tensors, content = packed(model.state_dict())
        models.append(facts_of(str(name), run) | {"tensors": tensors, "map": map_of(model)})
        blocks.append(block(f"weights-{index}", zlib.compress(content, 9)))
    tensors, content = packed(judge_weights(load_judge()))
    blocks.append(block("judge-data", zlib.compress(content, 9)))
    blocks.append(block("digits-data", examples().tobytes()))
    facts = {"models": models, "judge": tensors, "examples": EXAMPLES}
    parts = {name: (HERE / name).read_text("utf-8") for name in FILES}
    parts |= {"facts": json.dumps(facts), "data": "\n".join(reversed(blocks))}
    parts["address"] = html.escape(address())
    page = (HERE / "page.html").read_text("utf-8")
    for name, text in parts.items():
        page = page.replace(f"{{{{{name}}}}}", text)
    return page


def frame(names: Sequence[str] = tuple(RUNS), height: int = 1000) -> Any:
    """Return the page as a frame of some height in pixels, to stand below a notebook's cell.

    Clear the cell's output before the notebook goes into git: it holds the whole page.
    """
    from IPython.display import HTML  # comes with the notebooks' extra

    source, style = html.escape(build(names)), f"width: 100%; height: {height}px; border: 0"
    title = "Draw a digit, add a number"
    return HTML(f'<div><iframe title="{title}" srcdoc="{source}" style="{style}"></iframe></div>')


FILES = ("style.css", "network.js", "digit.js", "app.js")


def checked(name: str) -> Run:
    """Return a run that the page can show."""
    run = runs.load(name)
    config = run.config
    if not config.adds or config.image_size != 28 or config.operation != "add":
        came = f"{config.model} of {config.image_size} pixels, operation {config.operation!r}"
        raise ValueError(f"runs holds {name} ({came}); allowed are runs that add, of 28 pixels")
    return run


def address() -> str:
    """Return where the project lives."""
    urls = metadata("learn2add").get_all("Project-URL") or [""]
    return urls[0].partition(", ")[2]


def facts_of(name: str, run: Run) -> dict[str, Any]:
    """Return what the page says of a run, and what decides how it computes."""
    config = run.config
    title, about = RUNS.get(name, (name, "A run of your own."))
    return {
        "title": title,
        "about": about,
        "rule": getattr(config, "rule", "assigned"),
        "generative": config.model == "generative_addition",
        "embed_addend": config.embed_addend,
        "activation": config.activation,
        "decoder": config.decoder,
        "side": config.image_size,
    }


def packed(weights: dict[str, Tensor]) -> tuple[list[tuple[str, int, int]], bytes]:
    """Return weights as bytes, and of each ``(name, numbers, rows)`` in their order.

    As in the kept runs a large one becomes a float32 scale for each of its rows and int8 steps; of
    others, float16, ``rows`` is 0.
    """
    tensors, parts = [], []
    for name, tensor in weights.items():
        if tensor.numel() < EIGHT_BITS_FROM:
            tensors.append((name, tensor.numel(), 0))
            parts.append(tensor.detach().half().numpy().tobytes())
            continue
        steps, scale = in_eight_bits(tensor)
        tensors.append((name, tensor.numel(), len(steps)))
        parts += [scale.numpy().tobytes(), steps.numpy().tobytes()]
    return tensors, b"".join(parts)


def judge_weights(judge: Judge) -> dict[str, Tensor]:
    """Return the judge's convolutions, each normalisation as a scale and a shift, and its head."""
    found, index = {}, -1
    for layer in judge.body:
        if isinstance(layer, nn.Conv2d):
            index += 1
            found[f"{index}.weight"] = layer.weight
        elif isinstance(layer, nn.BatchNorm2d):
            scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
            found |= {f"{index}.scale": scale}
            found |= {f"{index}.shift": layer.bias - layer.running_mean * scale}
    return found | {"head.weight": judge.head.weight, "head.bias": judge.head.bias}


@torch.no_grad()
def map_of(model: nn.Module) -> dict[str, Any]:
    """Return two directions that part the digits' codes best, and some digits' places there.

    Source: R. Fisher, Annals of Eugenics 1936: the variance between classes over that within.
    """
    from scipy.linalg import eigh

    digits = load_digits("MNIST", "validation")
    z, labels = in_batches(model.encoder, digits.images).double().numpy(), digits.labels.numpy()
    means = np.stack([z[labels == digit].mean(0) for digit in range(10)])
    within = np.cov((z - means[labels]).T) + 1e-6 * np.eye(z.shape[1])
    _, directions = eigh(np.cov(means.T), within)  # in rising order
    best = directions[:, :-3:-1].T
    flat = z @ best.T
    low, high = np.quantile(flat, 0.002, axis=0), np.quantile(flat, 0.998, axis=0)
    places = np.rint(1000 * np.clip((flat - low) / (high - low), 0, 1)).astype(int)[:POINTS]
    return {
        "matrix": best.round(6).tolist(),
        "low": low.round(4).tolist(),
        "high": high.round(4).tolist(),
        "points": np.column_stack([places, labels[:POINTS]]).tolist(),
    }


def examples() -> NDArray[np.uint8]:
    """Return the first test digits of each class: uint8 ``[10 * EXAMPLES, 28, 28]``."""
    digits = load_digits("MNIST", "test")
    first = torch.cat([members[:EXAMPLES] for members in digits.by_class()])
    return digits.images[first].numpy()


def block(name: str, content: bytes) -> str:
    """Return bytes as an element of the page: seven bits a character, where base64 has six.

    The characters are those below 128; NUL, the carriage return and ``<`` mean something to HTML
    and stand 128 higher.
    """
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    bits = np.append(bits, np.zeros(-len(bits) % 7, np.uint8)).reshape(-1, 7)
    values = bits @ (1 << np.arange(6, -1, -1))
    values[np.isin(values, (0, 13, 60))] += 128
    text = values.astype(np.uint8).tobytes().decode("latin-1")
    return f'<script type="text/plain" id="{name}">{text}</script>'
