"""Answers as students write them: right ones in several ways, and the usual mistakes by name."""

import ast
import json
import random
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import exercise_answers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import learn2add
from learn2add import losses, network
from learn2add.course.check import CHECKS, check
from learn2add.course.exercises import EXERCISES
from learn2add.data import load_digits
from learn2add.pairs import transform_data_add

# II.1


def encoder(
    pad: Any = "same",
    widths: tuple[int, ...] = (32, 64, 128),
    hidden: int = 256,
    between: Callable = nn.Identity,
    last: Callable = nn.Identity,
    **looks: bool,
) -> type[nn.Module]:
    class Mine(nn.Module):
        def __init__(self, code_size: int) -> None:
            super().__init__()
            layers, before = [], 1
            for width in widths:
                layers.append(nn.Conv2d(before, width, 3, padding=pad))
                layers += [nn.ReLU()] if looks.get("relu", True) else []
                pool = nn.MaxPool2d(2, ceil_mode=looks.get("ceil", False))
                layers += [pool] if looks.get("pool", True) else []
                before = width
            if looks.get("pool_first"):
                layers = [layers[i] for n in range(0, 9, 3) for i in (n, n + 2, n + 1)]
            self.features = nn.Sequential(*layers, nn.Flatten())
            size = self.features(torch.zeros(1, 1, 28, 28)).shape[1]
            self.hidden, self.code = nn.Linear(size, hidden), nn.Linear(hidden, code_size)
            self.between, self.last = between(), last()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.code(self.between(self.hidden(self.features(x)))))

    return Mine


# II.2


def decoder(last: Callable = nn.Sigmoid, *, uses: bool = True, side: int = 28) -> type[nn.Module]:
    class Mine(nn.Module):
        def __init__(self, code_size: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(code_size, 64), nn.ReLU(), nn.Linear(64, side * side), last()
            )

        def forward(self, z: Tensor) -> Tensor:
            return self.layers(z if uses else 0 * z).view(-1, 1, side, side)

    return Mine


# II.3


def training(*, seeded: bool = True, used: bool = True, late: bool = False) -> Callable[[int], Any]:
    def train(seed: int) -> Any:
        model = nn.Linear(3, 2) if late else None
        if seeded:
            torch.manual_seed(seed if used else 0)
        return model or nn.Linear(3, 2)

    return train


# III.1


def pairs(mixed: str = "rolled", most: int = 9, shift: int = 0) -> Callable:
    def make(x: np.ndarray, y: np.ndarray) -> tuple[list, list, list]:
        img_in, value_in, img_out = [], [], []
        for total in range(most + 1):
            for digit in range(total + 1):
                a, b = x[y == digit], x[y == total]
                count = min(len(a), len(b))
                if digit == total and mixed == "rolled":
                    b = np.roll(b, 1, axis=0)
                elif digit == total and mixed == "views":
                    b = b.copy()
                    random.shuffle(b)
                img_in += list(a[:count])
                img_out += list(b[:count])
                value_in += [total - digit + shift] * count
        return img_in, value_in, img_out

    return make


# III.2


def adder(
    widths: tuple[int, ...] = (32, 16, 16),
    *,
    first: bool = False,
    relu: bool = True,
    last: bool = False,
    used: bool = True,
) -> type[nn.Module]:
    class Mine(nn.Module):
        def __init__(self, code_size: int) -> None:
            super().__init__()
            layers, before = [], code_size + 1
            for width in widths:
                layers += [nn.Linear(before, width), *([nn.ReLU()] if relu else [])]
                before = width
            layers += [nn.Linear(before, code_size), *([nn.ReLU()] if last else [])]
            self.layers = nn.Sequential(*layers)

        def forward(self, z: Tensor, addend: Tensor) -> Tensor:
            u = addend[:, None] if used else 0 * addend[:, None]
            return self.layers(torch.cat([u, z] if first else [z, u], 1))

    return Mine


# III.3


class Model(nn.Module):
    def __init__(self, e: nn.Module, p: nn.Module, d: nn.Module) -> None:
        super().__init__()
        self.e, self.p, self.d = e, p, d

    def forward(self, x: Tensor, addend: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        z = self.e(x)
        z_sum = self.p(z, addend)
        return self.d(z), self.d(z_sum), z_sum, self.e(y)


class InOneCall(Model):
    def forward(self, x: Tensor, addend: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        z, _ = self.e(torch.cat([x, y])).chunk(2)
        return self.d(torch.cat([z, self.p(z, addend)])).chunk(2)


class Swapped(Model):
    def forward(self, x: Tensor, addend: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x_hat, y_hat, *_ = super().forward(x, addend, y)
        return y_hat, x_hat


class Twice(Model):
    def __init__(self, e: nn.Module, p: nn.Module, d: nn.Module) -> None:
        super().__init__(e, p, d)
        self.other = network.DecoderConvTranspose()


class Cut(Model):
    def forward(self, x: Tensor, addend: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        z = self.e(x).detach()
        return self.d(z), self.d(self.p(z, addend))


# III.4 and IV.1


def total(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).sum(1).mean()


def by_torch(x: Tensor, y: Tensor, x_hat: Tensor, y_hat: Tensor, z: Tensor, t: Tensor) -> Tensor:
    terms = ((0.1, x_hat, x), (1, y_hat, y), (1, z, t))
    return sum(w * F.mse_loss(a, b, reduction="sum") for w, a, b in terms) / len(x)


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()


def normal(mu: Tensor, logvar: Tensor) -> torch.distributions.Normal:
    return torch.distributions.Normal(mu, (0.5 * logvar).exp())


# IV.3


def two_heads(kind: str = "logvar", *, apart: bool = False) -> type[nn.Module]:
    class Mine(nn.Module):
        def __init__(self, code_size: int) -> None:
            super().__init__()
            sizes = (code_size + 1, 32, 16, 16)
            self.body = nn.Sequential(
                *(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU()))
            )
            self.mu = nn.Linear(16, code_size)
            self.spread = nn.Linear(code_size if apart else 16, code_size)

        def forward(self, z: Tensor, addend: Tensor) -> Any:
            hidden = self.body(torch.cat([z, addend[:, None]], 1))
            mu = self.mu(hidden)
            spread = self.spread(mu if apart else hidden)
            ways = {"logvar": spread, "sigma": (spread / 2).exp(), "relu": F.relu(spread)}
            return mu if kind == "one" else (mu, ways[kind])

    return Mine


def unwritten(*_: Any) -> Any:
    raise NotImplementedError


RIGHT = {
    "II.1": [encoder(), encoder(pad=1), encoder(pool_first=True), encoder(between=nn.ReLU)],
    "II.2": [decoder(), decoder(side=64), decoder(lambda: nn.Hardsigmoid())],
    "II.3": [training(), lambda seed: torch.rand(5, generator=torch.Generator().manual_seed(seed))],
    "II.7": [
        lambda n: (encoder()(n), decoder()(n)),
        lambda n: (encoder(pool_first=True)(n), decoder(nn.Sigmoid)(n)),
    ],
    "III.1": [pairs(), lambda x, y: transform_data_add(x, y, (28, 28))],
    "III.2": [adder(), adder(first=True)],
    "III.3": [Model, InOneCall],
    "III.4": [
        lambda x, y, x_hat, y_hat, z, t: 0.1 * total(x_hat, x) + total(y_hat, y) + total(z, t),
        by_torch,
    ],
    "III.6": [
        lambda m, x, u: m.decoder(m.adder(m.encoder(x), u)),
        lambda m, x, u: torch.sigmoid(m.decoder.logits(m.adder(m.encoder(x), u))),
    ],
    "IV.1": [
        (sample, kl),
        (
            lambda mu, logvar: normal(mu, logvar).rsample(),
            lambda mu, logvar: torch.distributions.kl_divergence(
                normal(mu, logvar), torch.distributions.Normal(0.0, 1.0)
            ).sum(1),
        ),
    ],
    "IV.3": [two_heads(), two_heads("sigma")],
}
WRONG: dict[str, list[tuple[Any, str]]] = {
    "II.1": [
        (encoder(pad=0), "padding"),
        (encoder(pool=False), "max-pooling"),
        (encoder(ceil=True), "odd side"),
        (encoder(relu=False), "no ReLU"),
        (encoder(widths=(16, 32, 64)), "widths"),
        (encoder(hidden=128), "widths"),
        (encoder(last=nn.ReLU), "on the code"),
        (encoder(last=nn.Sigmoid), "on the code"),
        (encoder(between=nn.Sigmoid), "another"),
        (network.Encoder, "the package's"),
        (type("Mine", (network.Encoder,), {"__module__": "learn2add.network"}), "the package's"),
    ],
    "II.2": [
        (decoder(nn.Identity), "below 0"),
        (decoder(nn.Tanh), "below 0"),
        (decoder(nn.ReLU), "above 1"),
        (decoder(uses=False), "not used"),
        (decoder(side=32), "32 wide"),
        (network.DecoderConvUpsample, "the package's"),
    ],
    "II.3": [
        (training(seeded=False), "other weights"),
        (training(late=True), "other weights"),
        (training(used=False), "is it used"),
    ],
    "II.7": [
        (lambda n: (encoder()(2), decoder()(2)), "expected [3, 7]"),
        (lambda n: (encoder()(n), decoder(side=64)(n)), "expected [3, 1, 28, 28]"),
        (lambda n: (network.Encoder(n), decoder()(n)), "the package's"),
    ],
    "III.1": [
        (pairs("views"), "random.shuffle"),
        (pairs("not"), "own target"),
        (pairs(most=8), "45 pairs"),
        (pairs(shift=1), "digit + value"),
        (transform_data_add, "the package's"),
    ],
    "III.2": [
        (adder(relu=False), "no ReLU"),
        (adder(last=True), "last layer"),
        (adder(used=False), "addend is not used"),
        (adder((32, 16)), "expected 1,207"),
    ],
    "III.3": [
        (Swapped, "swapped"),
        (Twice, "there twice"),
        (Cut, "no gradient"),
        (network.AdditionModel, "the package's"),
    ],
    "III.4": [
        (
            lambda x, y, x_hat, y_hat, z, t: (
                0.1 * F.mse_loss(x_hat, x) + F.mse_loss(y_hat, y) + F.mse_loss(z, t)
            ),
            "112 times",
        ),
        (lambda *of: 6 * by_torch(*of), "batch"),
        (lambda x, y, x_hat, y_hat, z, t: by_torch(y, x, y_hat, x_hat, z, t), "0.1 belongs"),
        (lambda x, y, x_hat, y_hat, z, t: by_torch(x, y, x_hat, y_hat, z, z), "codes is missing"),
        (lambda x, y, x_hat, y_hat, z, t: (x_hat - x).square(), "scalar"),
        (losses.squared_error, "the package's"),
    ],
    "III.6": [
        (lambda m, x, u: m.decoder(m.encoder(x)), "redraws the input"),
        (lambda m, x, u: m.decoder.logits(m.adder(m.encoder(x), u)), "sigmoid"),
        (lambda m, x, u: (m(x, u), m.encoder(x)), "nothing else"),
        (lambda m, x, u: m(x, u)[0], "expected [3, 1, 28, 28]"),
    ],
    "IV.1": [
        ((lambda m, v: m + v.exp() * torch.randn_like(m), kl), "log of the VARIANCE"),
        ((lambda m, v: normal(m, v).sample(), kl), "no gradient"),
        ((lambda m, v: m + (v / 2).exp() * torch.rand_like(m), kl), "expected 3"),
        ((sample, lambda m, v: -kl(m, v)), "never negative"),
        ((sample, lambda m, v: kl(m, v) / 7), "mean over the seven"),
        ((sample, lambda m, v: len(m) * kl(m, v)), "batch"),
        ((sample, lambda m, v: 2 * kl(m, v)), "half"),
        (sample, "two functions"),
    ],
    "IV.3": [
        (two_heads("one"), "two tensors"),
        (two_heads("relu"), "second head"),
        (two_heads(apart=True), "expected 1,326"),
        (adder(), "two tensors"),
    ],
}
RIGHT |= exercise_answers.RIGHT
WRONG |= exercise_answers.WRONG
RIGHTS = [(item, answer) for item, answers in RIGHT.items() for answer in answers]
WRONGS = [(item, *wrong) for item, answers in WRONG.items() for wrong in answers]


def test_every_item_has_right_and_wrong_answers() -> None:
    assert set(RIGHT) == set(WRONG) == set(CHECKS | EXERCISES)
    assert all(len(answers) >= 2 for answers in RIGHT.values())
    assert all(len(answers) >= 3 for answers in WRONG.values())


@pytest.mark.parametrize(("item", "answer"), RIGHTS)
def test_right_answers_are_accepted_however_they_are_written(
    item: str, answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(item, answer), capsys.readouterr().out
    assert capsys.readouterr().out.startswith(f"{item}: right")


@pytest.mark.parametrize(("item", "answer", "hint"), WRONGS)
def test_wrong_answers_get_the_hint_of_their_mistake(
    item: str, answer: Any, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check(item, answer)
    said = capsys.readouterr().out
    assert said.startswith(f"{item}: not right: ") and hint in said, said
    assert said.count("\n") == 1


@pytest.mark.parametrize("item", CHECKS)
def test_what_is_not_written_is_not_yet_there(
    item: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check(item, (unwritten, unwritten) if item == "IV.1" else unwritten)
    assert capsys.readouterr().out == f"{item}: not yet\n"


@pytest.mark.parametrize("item", CHECKS)
def test_code_that_stops_is_told_why(item: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(item, lambda *_: 1 / 0)
    assert "not right: " in capsys.readouterr().out


def shown(number: str) -> dict[str, Any]:
    """The classes and functions that a notebook shows."""
    (file,) = (Path(__file__).parents[2] / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(file.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    kinds = ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef
    tree = ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.M))
    tree.body = [node for node in tree.body if isinstance(node, kinds)]
    found: dict[str, Any] = {"__name__": "__main__", "device": "cpu"}
    exec(compile(tree, file.name, "exec"), found)
    return found


def in_seconds(train: Callable) -> Callable:
    """A notebook's training on a few digits instead of all."""
    train.__globals__["train"] = load_digits(split="train").subset(300)
    return lambda seed: train(seed, steps=2)


def test_what_the_notebooks_show_passes() -> None:
    two, three, four = (shown(number) for number in ("02", "03", "04"))
    assert check("II.1", two["MyEncoder"])
    assert check("II.2", two["MyDecoder"]) and check("II.2", two["MyUpsamplingDecoder"])
    assert check("II.3", in_seconds(two["my_training"]))
    assert check("II.7", two["my_autoencoder"])
    assert check("III.1", three["my_transform"])
    assert check("III.2", three["MyAdder"])
    assert check("III.3", three["MyAdditionModel"])
    assert check("III.4", three["my_loss"])
    assert check("III.6", three["my_inference"])
    assert check("IV.1", (four["sample"], four["divergence"]))
    assert check("IV.3", four["MyGaussianAdder"])


@pytest.mark.parametrize("item", EXERCISES)
def test_a_checked_exercise_says_so_and_its_solution_asks_the_check(item: str) -> None:
    number, exercise = item.split(".")
    root = Path(__file__).parents[2]
    (file,) = (root / "notebooks").glob(f"{int(number):02d}_*.ipynb")
    assert f'`check(\\"{item}\\", ' in file.read_text()
    (file,) = (root / "tools" / "solutions").glob(f"{int(number):02d}_*.md")
    solution = re.split(r"^### ", file.read_text(), flags=re.M)[int(exercise)]
    assert f'check("{item}", ' in solution


def test_a_check_leaves_the_generators_as_they_were() -> None:
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    check("II.1", encoder())
    assert torch.equal(torch.rand(1), before)


def differences(mixed: str = "rolled") -> Callable:
    """Pairs of which the digit minus the value is the digit of the output."""

    def make(x: np.ndarray, y: np.ndarray) -> tuple[list, list, list]:
        img_out, value_in, img_in = pairs(mixed)(x, y)  # d + a = s, so s - a = d
        return img_in, value_in, img_out

    return make


def test_the_variant_subtracts(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("III.1", differences(), "subtract")
    for answer, operation, hint in (
        (pairs(), "subtract", "digit - value"),
        (differences(), "add", "digit + value"),
        (differences("views"), "subtract", "random.shuffle"),
        (differences("not"), "subtract", "own target"),
    ):
        capsys.readouterr()
        assert not check("III.1", answer, operation)
        assert hint in capsys.readouterr().out
    with pytest.raises(ValueError, match="item to subtract is 'II.1'; allowed is one of 'III.1'"):
        check("II.1", encoder(), "subtract")
    with pytest.raises(ValueError, match="operation is 'times'; allowed is"):
        check("III.1", pairs(), "times")


def test_the_package_gives_the_check_at_its_door() -> None:
    assert learn2add.check is check
    with pytest.raises(AttributeError, match="has no attribute 'chekc'"):
        _ = learn2add.chekc


def test_an_unknown_item_is_refused() -> None:
    with pytest.raises(ValueError, match="item is 'V.1'; allowed is"):
        check("V.1", None)


def test_all_checks_together_take_seconds() -> None:
    start = time.monotonic()
    for item, answers in RIGHT.items():
        check(item, answers[0])
    assert time.monotonic() - start < 10
