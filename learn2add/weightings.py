"""The report's Table 1 again: sixteen weightings of one loss, under one budget, measured.

The report tried them one after the other and judged by eye ("only fuzzy nines"). Here each is a run
of the same length from the same weights, and its verdict is a count.

The report's weights are for means over the elements of a picture or a code; a term here is a sum
over them (:mod:`learn2add.objectives`). Adam does not mind a common factor, so only the ratio of
the two lengths remains: a weight of 1 on its KL is one of 784 / 7 = 112 here, beside pictures of
weight 1.

Source: report, section 5.2, Table 1.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from learn2add.collapse import examine
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.evidence import sampled_sums
from learn2add.hardware import default_device, default_precision
from learn2add.judge import Judge
from learn2add.models import code_of
from learn2add.objectives import PIXELS, gaussian_kl_of_units
from learn2add.runs import Run, kept_file

CODE_SIZE = 7
STEPS = 1500
PLACE = "part4/table1"


class Weighting(NamedTuple):
    """One row of the table."""

    l2_orig: float
    l2_added: float
    kld_encoder: float
    kld_adder: float
    verdict: str
    """What the report's author saw."""


NINES, A_NUMBER = "only fuzzy nines", "just a number with fuzzy nines"
OTHERS, CORRECT = "numbers different from the target", "correct"

TABLE1 = (
    Weighting(0.1, 0.5, 0.00001, 0.00001, NINES),
    Weighting(0.1, 0.5, 0.0001, 0.0001, NINES),
    Weighting(0.3, 0.7, 0.0001, 0.0002, NINES),
    Weighting(0.5, 0.5, 0.0005, 0.0005, NINES),
    Weighting(0.7, 0.7, 0.0002, 0.0002, NINES),
    Weighting(1, 1, 0.0005, 0.0005, NINES),
    Weighting(0.5, 0.5, 0.0001, 0.0002, A_NUMBER),
    Weighting(0.6, 0.8, 0.00015, 0.00015, A_NUMBER),
    Weighting(1, 1, 0.0001, 0.0001, A_NUMBER),
    Weighting(1, 1, 0.0001, 0.0001, A_NUMBER),
    Weighting(1.2, 0.8, 0.00005, 0.00005, A_NUMBER),
    Weighting(1, 0.2, 0.0001, 0.0001, OTHERS),
    Weighting(1, 0.4, 0.0001, 0.0005, OTHERS),
    Weighting(1, 0.4, 0.0001, 0.0005, OTHERS),
    Weighting(0.9, 0.1, 0.0002, 0.0002, OTHERS),
    Weighting(0.1, 1, 0.00001, 0.00001, CORRECT),
)
"""Sixteen rows, fourteen different ones: two stand there twice."""


def weighting_config(
    weighting: Weighting, *, steps: int = STEPS, epochs: int = 4, seed: int = 0
) -> RunConfig:
    """The generative model from scratch under the report's objective with these weights.

    Its balanced data, its embedded addend, squared error, Adam at 0.001; 64 pairs a step. After
    each of the epochs that share the steps, validation and the alarm's reading.
    """
    kl = PIXELS / CODE_SIZE
    stage = Stage("addition", epochs, -(-steps // epochs), 64, balance="sums")
    return RunConfig(
        (stage,),
        "generative_addition",
        code_size=CODE_SIZE,
        l2_orig=weighting.l2_orig,
        l2_added=weighting.l2_added,
        code=0.0,
        kld_encoder=kl * weighting.kld_encoder,
        kld_adder=kl * weighting.kld_adder,
        embed_addend=True,
        seed=seed,
        precision=default_precision(default_device()),
    )


@torch.no_grad()
def measure(run: Run, judge: Judge, digits: Digits) -> dict[str, Any]:
    """What a weighting came to.

    Args:
        run: Trained by :func:`weighting_config`.
        judge: Reads the sums.
        digits: Validation digits.

    Returns:
        ``accuracy``, ``digits`` (how many are drawn at all), ``active`` units of ``code_size``,
        ``kl_encoder`` and ``kl_adder`` (nats per code dimension, sorted), ``sampled`` and
        ``diversity`` at temperature 1, and ``pictures``, uint8 ``[10, S, S]``: the sums 0 to 9,
        each from a digit that is half of it.
    """
    device = digits.images.device
    model = run.model(device)
    health = examine(model, judge, digits, per_digit=50)
    [sampled] = sampled_sums(model.inference(), judge, digits, per_cell=50)
    first = torch.stack([members[0] for members in digits.by_class()])
    total = torch.arange(10, device=device)
    x, addend = as_float(digits.images[first[total // 2]]), (total - total // 2).float()
    pictures = model.inference()(x, addend)[:, 0]
    some = as_float(digits.images[:1000])
    _, q = code_of(model.encoder, some)
    _, p = code_of(model.adder, q.mu, torch.zeros(len(some), device=device))
    nats = [sorted(gaussian_kl_of_units(*g).tolist()) for g in (q, p)]
    return {
        "accuracy": health.right,
        "digits": health.drawn,
        "active": health.active,
        "code_size": CODE_SIZE,
        "kl_encoder": [round(value, 4) for value in nats[0]],
        "kl_adder": [round(value, 4) for value in nats[1]],
        "sampled": sampled.accuracy,
        "diversity": sampled.diversity,
        "pictures": (255 * pictures).round().byte().cpu().numpy(),
    }


def kept_table() -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The table that came with the project; ``tools/table1.py`` makes it.

    Returns:
        ``steps`` of each run, ``rows`` (``weights``, ``verdict`` and what :func:`measure` found but
        the pictures), ``search_steps`` of a trial and ``trials`` of the search (``weights``,
        ``state``, ``right``); and the ten pictures of each row, ``[R, 10, S, S]``.

    Raises:
        FileNotFoundError: The project came without its kept runs.
    """
    folder = kept_file(PLACE)
    if folder is None:
        raise FileNotFoundError(f"no kept runs/{PLACE}; tools/table1.py makes it")
    return json.loads((folder / "table.json").read_text()), np.load(folder / "pictures.npy")
