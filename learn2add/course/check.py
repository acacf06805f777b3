"""Checks of students' answers: ``check("II.1", MyEncoder)`` says right, or names the usual mistake.

An answer is compared as a *function*, never as text: it is given the package's weights in order, or
numbers whose result is known, so every way of writing the same thing is accepted. What was imported
from the package is no answer. One function for each item, which is why the file is long. Source:
assignment, Parts II to IV.
"""

import math
import random
from collections.abc import Callable
from inspect import signature
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add import losses, network
from learn2add.checks import check_choice
from learn2add.data import load_digits
from learn2add.network import parameter_count
from learn2add.pairs import CELLS


class Wrong(AssertionError):
    """An answer is wrong; the message is the hint."""


def check(item: str, answer: Any, operation: str = "add") -> bool:
    """Print whether an answer to an item is right, or a hint; return whether it is.

    - II.1, II.2: the class of an encoder, of a decoder, made as ``answer(code_size)``
    - II.3: a function that trains with a seed and returns weights
    - II.7: a function that makes an encoder and a decoder of a code size
    - III.1: ``transform_data_add(x_train, y_train)``, images left at their size; for the variant
      with differences the operation is "subtract"
    - III.2: an adder's class, made as ``answer(code_size)``, called with codes and addends
    - III.3: a model's class, made of encoder, adder and decoder; its ``training_pass``, or call,
      is given ``(x, addend, y)`` and returns reconstruction and sum first
    - III.4: the loss, a function of ``(x, y, x_hat, y_hat, z_sum, z_target)``
    - III.6: a function ``(model, x, addend)`` that draws the sums
    - IV.1: a pair of functions of ``(mu, logvar)``, a sample (which may be given the noise) and the
      divergence from N(0, I)
    - IV.3: a generative adder's class; its ``gaussian``, or its call, returns mean and log-variance
    - 2.1 (notebook and exercise) and others: see :mod:`learn2add.course.exercises`

    Raises:
        ValueError: There is no check of that item, or not with that operation.
    """
    from learn2add.course.exercises import EXERCISES  # which use what stands below

    judges = CHECKS | EXERCISES
    judge = judges[check_choice("item", item, tuple(judges))]
    if check_choice("operation", operation, ("add", "subtract")) == "subtract":
        judge = {"III.1": differences}[check_choice("item to subtract", item, ("III.1",))]
    state = torch.random.get_rng_state(), random.getstate()
    try:
        for part in answer if isinstance(answer, tuple) else (answer,):
            ensure(not is_the_packages(part), "this is the package's; write one of your own")
        torch.manual_seed(0)
        said, right = judge(answer) or "right", True
    except NotImplementedError:
        said, right = "not yet", False
    except Wrong as hint:
        said, right = f"not right: {hint}", False
    except Exception as error:  # of the student's code, whatever it is
        said, right = f"not right: it stops with {type(error).__name__}: {error}", False
    finally:
        torch.random.set_rng_state(state[0])
        random.setstate(state[1])
    print(f"{item}: {said}")
    return right


def is_the_packages(answer: Any) -> bool:
    """Whether a class, a function or an object comes from the package, renamed or not."""
    kind = answer if isinstance(answer, type) else type(answer)
    places = [getattr(answer, "__module__", ""), getattr(kind, "__module__", "")]
    return any(str(place).partition(".")[0] == "learn2add" for place in places)


def ensure(condition: bool | np.bool_, hint: str) -> None:
    """Raise the hint unless the condition holds."""
    if not condition:
        raise Wrong(hint)


def refuse(answer: Tensor, mistakes: dict[str, Tensor], otherwise: str) -> NoReturn:
    """Raise the hint of the mistake whose result the answer is."""
    for hint, result in mistakes.items():
        if answer.shape == result.shape and torch.allclose(answer, result, rtol=1e-3, atol=1e-4):
            raise Wrong(hint)
    raise Wrong(otherwise)


def check_size(mine: nn.Module, wanted: int, hint: str) -> None:
    """Raise a hint unless a network has so many weights."""
    found = parameter_count(mine)
    ensure(found == wanted, f"{found:,} weights, expected {wanted:,}: {hint}")


def same_weights(mine: nn.Module, theirs: nn.Module, hint: str) -> None:
    """Give ``mine`` the weights of ``theirs``, in order; of other shapes they are the mistake."""
    ours, own = ([p for p in module.parameters()] for module in (theirs, mine))
    ensure([p.shape for p in own] == [p.shape for p in ours], hint)
    with torch.no_grad():
        for a, b in zip(own, ours, strict=True):
            a.copy_(b)
    mine.eval()


def result_of(mine: Callable[..., Any], *inputs: Tensor) -> Tensor:
    """Return what it computes, without gradient."""
    with torch.no_grad():
        return mine(*inputs)


def check_shape(name: str, value: Any, *shape: int) -> None:
    """Raise a hint unless the value is a tensor of that shape."""
    ensure(isinstance(value, Tensor), f"{name} must be a tensor, not {type(value).__name__}")
    ensure(value.shape == shape, f"{name} has shape {list(value.shape)}, expected {list(shape)}")


def encoder(make: Callable[[int], nn.Module], code_size: int = 2) -> str:
    """Check II.1."""
    mine, theirs, x = make(code_size), network.Encoder(code_size), torch.rand(4, 1, 28, 28)
    check_shape("the code of 4 images", result_of(mine, x), 4, code_size)
    rest = parameter_count(theirs) - parameter_count(
        theirs.hidden
    )  # all but the linear layer behind the poolings
    behind = {
        128: "the images shrink too far: is padding 'same'?",
        128 * 28 * 28: "no max-pooling: after three poolings an image is 3 x 3",
        128 * 4 * 4: "a pooling of an odd side drops a row (28, 14, 7, 3), yours keeps it",
    }
    for values, hint in behind.items():
        ensure(parameter_count(mine) != rest + 256 * values + 256, hint)
    check_size(mine, parameter_count(theirs), "look at the layers' widths")
    same_weights(mine, theirs, "the layers have other sizes: 32, 64, 128 channels, then 256")
    found, relu = result_of(mine, x), network.Encoder(code_size, activation="relu")
    if torch.allclose(found, result_of(theirs, x), atol=1e-4):
        return "right"
    same_weights(relu, theirs, "")
    if torch.allclose(found, result_of(relu, x), atol=1e-4):
        return (
            "right, with a ReLU between the two linear layers (notebook 11 says what it is worth)"
        )
    with torch.no_grad():
        plain = nn.Sequential(*(m for m in theirs.features if not isinstance(m, nn.ReLU)))
        linear = theirs.code(theirs.hidden(plain(x)))
        on_code = {"an activation on the code: it must be linear": F.relu(theirs(x))}
        on_code |= {"an activation on the code: it must be linear ": torch.sigmoid(theirs(x))}
        refuse(
            found,
            {"there is no ReLU behind the convolutions": linear} | on_code,
            "the sizes are right, the function is another: which activation stands where?",
        )


def decoder(make: Callable[[int], nn.Module], code_size: int = 2) -> str:
    """Check II.2: any of the three decoders, or one of another kind that keeps the rules."""
    mine, z = make(code_size), torch.randn(4, code_size)
    drawn = result_of(mine, z)
    check_shape("the images of 4 codes", drawn, 4, 1, *drawn.shape[-1:], *drawn.shape[-1:])
    ensure(drawn.shape[-1] in (28, 64), f"images are {drawn.shape[-1]} wide, expected 28 or 64")
    far = result_of(mine, 1000 * z)
    ensure(drawn.min() >= 0 and far.min() >= 0, "pixels below 0: which activation ends at 0?")
    ensure(drawn.max() <= 1 and far.max() <= 1, "pixels above 1: which activation ends at 1?")
    ensure(not torch.equal(drawn[0], drawn[1]), "two codes give one image: the code is not used")
    return "right"


def same_training(train: Callable[[int], Any]) -> str:
    """Check II.3."""

    def weights(seed: int) -> Tensor:
        found = train(seed)
        found = found.parameters() if isinstance(found, nn.Module) else found
        found = [found] if isinstance(found, Tensor) else list(found)
        return torch.cat([torch.as_tensor(part).detach().flatten().float() for part in found])

    first = weights(0)
    torch.rand(7)  # as if something else had drawn in between
    random.random()
    again, other = weights(0), weights(1)
    ensure(torch.equal(first, again), "the same seed gives other weights: where is it set?")
    ensure(not torch.equal(first, other), "another seed gives the same weights: is it used?")
    return "right"


def code_of_seven(make: Callable[[int], tuple[nn.Module, nn.Module]]) -> str:
    """Check II.7."""
    for code_size in (2, 7):
        first, second = make(code_size)
        ensure(not is_the_packages(first), "this is the package's; write one of your own")
        z = result_of(first, torch.rand(3, 1, 28, 28))
        check_shape("the code", z, 3, code_size)
        check_shape("the images", result_of(second, z), 3, 1, 28, 28)
    return "right"


def differences(make: Callable[[Any, Any], tuple[list, list, list]]) -> str:
    """Check III.1 of the variant: subtraction."""
    return pairs(make, -1)


def pairs(make: Callable[[Any, Any], tuple[list, list, list]], sign: int = 1) -> str:
    """Check III.1 on a few real digits; with ``sign`` -1 the pairs are those of differences."""
    digits = load_digits("MNIST", "validation")
    x, y = digits.images[:1500].numpy(), digits.labels[:1500].numpy()
    kept, label = x.copy(), {image.tobytes(): int(d) for image, d in zip(x, y, strict=True)}
    img_in, value_in, img_out = make(x, y)
    ensure(np.array_equal(x, kept), "your function changes the images it is given")
    ensure(len(img_in) == len(value_in) == len(img_out), "the three lists differ in length")
    ensure({np.asarray(image).shape for image in img_in} == {(28, 28)}, "leave images at 28 x 28")
    first, last = (
        [label.get(np.asarray(image, np.uint8).tobytes()) for image in part]
        for part in (img_in, img_out)
    )
    ensure(None not in first + last, "some images are none of those that were given")
    sums = [d + sign * int(u) for d, u in zip(first, value_in, strict=True)]
    wanted, mark = (CELLS, "+") if sign == 1 else ([(d + u, u) for d, u in CELLS], "-")
    ensure(sums == last, f"a pair is wrong: digit {mark} value must be the digit of the output")
    cells = {(d, int(u)) for d, u in zip(first, value_in, strict=True)}
    ensure(cells == set(wanted), f"{len(cells)} pairs (digit, number) occur, expected {len(CELLS)}")
    for digit in range(10):
        same = [d == digit and int(u) == 0 for d, u in zip(first, value_in, strict=True)]
        count = int((y == digit).sum())
        for part in (img_in, img_out):
            images = (np.asarray(image) for image, cell in zip(part, same, strict=True) if cell)
            found = {image.tobytes() for image in images}
            ensure(
                len(found) > 0.9 * count,
                f"of {count} images of {digit} only {len(found)} are in {digit} {mark} 0: "
                "random.shuffle on an array copies rows instead of swapping them; permute indices",
            )
    own = sum(np.array_equal(a, b) for a, b in zip(img_in, img_out, strict=True))
    ensure(own < 0.05 * len(y), f"{own} images are their own target: mix those of + 0")
    sizes = np.bincount(y, minlength=10)
    count = sum(min(sizes[d], sizes[d + sign * u]) for d, u in wanted)
    ensure(len(img_in) == count, f"{len(img_in):,} pairs, expected {count:,}: the smaller class")
    return "right"


def adder(make: Callable[[int], nn.Module]) -> str:
    """Check III.2; whether the addend comes first or last does not matter."""
    mine, theirs = make(7), network.Adder()
    z, addend = torch.randn(5, 7), torch.tensor([0.0, 1.0, 2.0, 5.0, 9.0])
    check_shape("the code of the sum", result_of(mine, z, addend), 5, 7)
    check_size(mine, parameter_count(theirs), "32, 16, 16, then 7")
    same_weights(mine, theirs, "the layers have other sizes: 8 -> 32 -> 16 -> 16 -> 7")
    wanted = result_of(theirs, z, addend)
    if torch.allclose(result_of(mine, z, addend), wanted, atol=1e-5):
        return "right"
    with torch.no_grad():
        first = next(iter(mine.parameters()))
        first.copy_(first.roll(1, 1))  # the addend's column in front
        if torch.allclose(mine(z, addend), wanted, atol=1e-5):
            return "right, the addend first"
        first.copy_(first.roll(-1, 1))
        linear = nn.Sequential(*(m for m in theirs.layers if isinstance(m, nn.Linear)))
        joined = torch.cat([z, addend[:, None]], 1)
        refuse(
            mine(z, addend),
            {
                "there is no ReLU between the layers": linear(joined),
                "the last layer is linear, without a ReLU": F.relu(wanted),
                "the addend is not used": result_of(theirs, z, torch.zeros(5)),
            },
            "the sizes are right, the function is another",
        )


def whole_model(make: Callable[..., nn.Module]) -> str:
    """Check III.3."""
    parts = network.Encoder(), network.Adder(), network.DecoderConvTranspose()
    mine = make(*parts).eval()
    x, addend, y = torch.rand(3, 1, 28, 28), torch.arange(3.0), torch.rand(3, 1, 28, 28)
    found = getattr(mine, "training_pass", mine)(x, addend, y)
    ensure(
        isinstance(found, tuple) and len(found) >= 2, "return the two images, then what you like"
    )
    check_size(mine, sum(map(parameter_count, parts)), "is E or D there twice?")
    e, p, d = (part.eval() for part in parts)
    with torch.no_grad():
        x_hat, y_hat = d(e(x)), d(p(e(x), addend))
    for name, value in zip(("the reconstruction", "the image of the sum"), found, strict=False):
        check_shape(name, value, 3, 1, 28, 28)
    swapped = torch.allclose(found[0], y_hat, atol=1e-4)
    ensure(not swapped, "the two images are swapped: the reconstruction of the input comes first")
    ensure(torch.allclose(found[0], x_hat, atol=1e-4), "the first image is not D(E(x))")
    ensure(torch.allclose(found[1], y_hat, atol=1e-4), "the second image is not D(P(E(x), addend))")
    found[1].sum().backward()
    ensure(e.code.weight.grad is not None, "no gradient reaches the encoder from the sum")
    return "right"


def three_terms(loss: Callable[..., Tensor]) -> str:
    """Check III.4."""
    generator = torch.Generator().manual_seed(0)
    x, x_hat, y, y_hat = (torch.rand(6, 1, 28, 28, generator=generator) for _ in range(4))
    z_sum, z_target = torch.rand(2, 6, 7, generator=generator)
    s = losses.squared_error
    a, b, c = s(x_hat, x), s(y_hat, y), s(z_sum, z_target)
    found, wanted = loss(x, y, x_hat, y_hat, z_sum, z_target), 0.1 * a + b + c
    ensure(isinstance(found, Tensor) and found.dim() == 0, "the loss must be one number, a scalar")
    if torch.allclose(found, wanted, rtol=1e-4):
        return "right"
    means = 0.1 * F.mse_loss(x_hat, x) + F.mse_loss(y_hat, y) + F.mse_loss(z_sum, z_target)
    refuse(
        found,
        {
            "means over elements: the code term then weighs 112 times as much as the images "
            "(notebook 3, section 4); sum over the elements": means,
            "summed over the batch as well: the loss grows with the batch": 6 * wanted,
            "the 0.1 belongs to the reconstruction of the input": a + 0.1 * b + c,
            "the 0.1 at the reconstruction is missing": a + b + c,
            "the term on the codes is missing": 0.1 * a + b,
            "the image of the sum is missing": 0.1 * a + c,
            "the square is missing: a norm is its root": 0.1 * a.sqrt() + b.sqrt() + c.sqrt(),
        },
        "a term is missing, or a weight stands at the wrong one",
    )


def inference(draw: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> str:
    """Check III.6."""
    parts = network.Encoder(), network.Adder(), network.DecoderConvTranspose()
    model, x, addend = network.AdditionModel(*parts).eval(), torch.rand(3, 1, 28, 28), torch.ones(3)
    found = draw(model, x, addend)
    ensure(not isinstance(found, tuple), "return one image for each input, and nothing else")
    check_shape("the images", found, 3, 1, 28, 28)
    with torch.no_grad():
        z, mistakes = model.encoder(x), {}
        mistakes["this redraws the input: the adder is not used"] = model.decoder(z)
        logits = model.decoder.logits(model.adder(z, addend))
        mistakes["these are the values before the sigmoid"] = logits
        if torch.allclose(found, model(x, addend), atol=1e-4):
            return "right"
    refuse(found.detach(), mistakes, "this is not D(P(E(x), addend))")


def distributions(parts: tuple[Callable, Callable]) -> str:
    """Check IV.1: the reparameterised sample, then the divergence from N(0, I)."""
    ensure(isinstance(parts, tuple) and len(parts) == 2, "give two functions: (sample, divergence)")
    sample, divergence = parts
    mu = torch.full((100_000, 1), 2.0, requires_grad=True)
    logvar = torch.full((100_000, 1), 2 * math.log(3)).requires_grad_()
    noise = (torch.randn_like(mu),) if len(signature(sample).parameters) > 2 else ()
    z = sample(mu, logvar, *noise)
    check_shape("the sample", z, 100_000, 1)
    spread, middle = float(z.detach().std()), float(z.detach().mean())
    ensure(abs(spread - 9) > 0.3, "deviation 9 where 3 is right: logvar is the log of the VARIANCE")
    ensure(abs(spread - 3) < 0.1, f"its deviation is {spread:.2f}, expected 3: exp(logvar / 2)")
    ensure(abs(middle - 2) < 0.1, f"its mean is {middle:.2f}, expected 2: the noise is N(0, 1)")
    ensure(z.requires_grad, "no gradient reaches mu and logvar: mu + sigma * noise, by hand")
    z.square().sum().backward()
    for name, part in (("mu", mu), ("logvar", logvar)):
        reached = part.grad is not None and part.grad.abs().sum() > 0
        ensure(reached, f"no gradient reaches {name}")
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 50, 7, generator=generator)
    wanted, found = losses.gaussian_kl(mu, logvar), divergence(mu, logvar)
    found = found.mean() if found.shape == (50,) else found
    ensure(found.dim() == 0, "the divergence must be one number, or one for each code")
    if not torch.allclose(found, wanted, rtol=1e-4):
        sigma = logvar.abs()  # as if the head gave sigma, and its square were the variance
        mistakes = {
            "the sign: a divergence is never negative": -wanted,
            "a mean over the seven numbers instead of their sum": wanted / 7,
            "summed over the batch as well: the loss grows with the batch": 50 * wanted,
            "the half is missing": 2 * wanted,
            "logvar taken for sigma": 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1).mean(),
        }
        refuse(found, mistakes, "compare with torch.distributions.kl_divergence")
    return "right"


def generative_adder(make: Callable[[int], nn.Module]) -> str:
    """Check IV.3."""
    mine, theirs = make(7), network.GaussianAdder()
    z, addend = torch.randn(5, 7), torch.arange(5.0)
    drawn = getattr(mine, "gaussian", mine)
    found = result_of(drawn, z, addend)
    two = isinstance(found, tuple) and len(found) == 2
    ensure(two, "return two tensors: the mean and the log-variance (or the deviation)")
    for name, value in zip(("the mean", "the second output"), found, strict=True):
        check_shape(name, value, 5, 7)
    check_size(mine, parameter_count(theirs), "one linear layer more")
    same_weights(mine, theirs, "the layers have other sizes: both heads come from the 16 numbers")
    (mu, spread), q = result_of(drawn, z, addend), theirs.gaussian(z, addend)
    ensure(torch.allclose(mu, q.mu, atol=1e-4), "the mean is not that of Part III's adder")
    ways = (q.logvar, (q.logvar / 2).exp(), q.logvar.exp(), F.softplus(q.logvar))
    known = any(torch.allclose(spread, way, atol=1e-4) for way in ways)
    ensure(known, "the second head is no linear layer of the same 16 numbers")
    return "right"


CHECKS: dict[str, Callable[[Any], str]] = {
    "II.1": encoder,
    "II.2": decoder,
    "II.3": same_training,
    "II.7": code_of_seven,
    "III.1": pairs,
    "III.2": adder,
    "III.3": whole_model,
    "III.4": three_terms,
    "III.6": inference,
    "IV.1": distributions,
    "IV.3": generative_adder,
}
