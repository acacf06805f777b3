"""From one digit to another as a film: ``learn2add morph`` (notebook 7)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from learn2add import runs
from learn2add.checkpoints import write_atomically
from learn2add.data import as_float, in_batches, load_digits
from learn2add.drawing.photo import read_digit
from learn2add.drawing.sums import check_output
from learn2add.studies.figures import film
from learn2add.studies.latent import straight

FRAMES, KNOWN = 21, 5000


@torch.no_grad()
def morph(start: str, end: str, output: Path, name: str) -> None:
    """Write the straight way between two codes of a run as a GIF, there and back for ever.

    Each end is a digit, "0" to "9", which stands for the mean code of its class (5,000 training
    digits), or the path of a picture of one.

    Raises:
        ValueError: The output is no GIF or one of the pictures, an end is neither a digit nor a
            picture of one, or the run has learned no digits.
        RunError: There is no such run.
    """
    check_output(output, ".gif", Path(start), Path(end))
    run = runs.load(name)
    if run.config.dataset != "MNIST":
        raise ValueError(f"{run.folder} has learned {run.config.dataset}; name a run of digits")
    model = run.model("cpu")
    a, b = (code_of(each, model.encoder, run.config.image_size) for each in (start, end))
    drawn = model.decoder(straight(a, b, FRAMES))[:, 0]
    write_atomically(output, film({f"{start} to {end}": drawn}, zoom=8).gif)
    print(f"wrote {output}, {FRAMES} images each way")


def code_of(what: str, encoder: nn.Module, side: int) -> Tensor:
    """Return the mean code of a digit's class, or the code of a picture of one: ``[C]``."""
    if what not in tuple("0123456789"):
        return encoder(as_float(read_digit(what, side)[None]))[0]
    known = load_digits("MNIST", "train").subset(KNOWN).resized(side)
    return in_batches(encoder, known.images[known.labels == int(what)]).mean(0)
