"""Every term of every loss, in one scaling, and the error measures that training reports.

The scaling: a term is *summed* over pixels (or code dimensions) and *averaged* over the batch. So
terms of one loss are comparable with each other, a weight of 1 on each gives a likelihood, and a
larger picture counts for more than a smaller one.

The student report states its weights for per-element *means* (its Table 1). One picture of 28x28
has 784 elements and one code has ``code_size``, so a report weight ``w`` on a mean equals a weight
``w / PIXELS`` (pictures) or ``w / code_size`` (codes, KL) here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from learn2add.checks import check_choice
from learn2add.encoders import Gaussian

PIXELS = 28 * 28
"""Elements of a 28x28 picture: the factor between the report's weights and this project's."""


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared error, summed over all dimensions but the first, averaged over the first.

    Args:
        a: Float ``[B, ...]``, pictures or codes.
        b: The same shape.
        weight: How much each item counts, ``[B]``; None is 1 each.

    Returns:
        A scalar, in squared grey levels (or code units) per item.

    Raises:
        ValueError: The shapes differ (they are never broadcast).

    Source: "L2", assignment, Part II item 4 and Part III item 4.
    """
    return _batch_mean(_squares(a, b), weight)


def binary_cross_entropy(logits: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy against grey levels, summed over pixels, averaged over the batch.

    A grey level ``x`` is read as the probability that the pixel is on. The smallest value is then
    not 0 but the entropy of the grey levels themselves, reached where ``sigmoid(logits) == x``.

    Args:
        logits: Float ``[B, 1, S, S]``, before the sigmoid.
        x: Float ``[B, 1, S, S]`` in [0, 1].
        weight: How much each picture counts, ``[B]``; None is 1 each.

    Returns:
        A scalar, in nats per picture.

    Raises:
        ValueError: The shapes differ.

    Source: assignment, Part II item 6.
    """
    return _batch_mean(_cross_entropies(logits, x), weight)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)), summed over dimensions, averaged over the batch.

    Args:
        mu: Means, float ``[B, code_size]``.
        logvar: Logarithms of the variances, same shape.

    Returns:
        A scalar, in nats per code.

    Raises:
        ValueError: The shapes differ.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix B.
    """
    return 0.5 * _twice_kl(mu, logvar).sum() / len(mu)


def gaussian_kl_of_units(mu: Tensor, logvar: Tensor) -> Tensor:
    """What each number of the code adds to :func:`gaussian_kl`.

    Args:
        mu: Means, float ``[B, code_size]``.
        logvar: Logarithms of the variances, same shape.

    Returns:
        Nats, ``[code_size]``, averaged over the batch.

    Raises:
        ValueError: The shapes differ.
    """
    return 0.5 * _twice_kl(mu, logvar).mean(0)


def _twice_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Twice the divergence of each number of each code from N(0, 1)."""
    _check_same_shape(mu, logvar)
    mu, logvar = mu.float(), logvar.float()
    return mu.square() + logvar.exp() - 1 - logvar


def gaussian_kl_between(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of two diagonal Gaussians, summed over dimensions, averaged over the batch.

    Args:
        q: Where the samples come from, ``[B, code_size]``.
        p: What is to be like it, same shape.

    Returns:
        A scalar, in nats per code.

    Raises:
        ValueError: The shapes differ.
    """
    _check_same_shape(q.mu, p.mu)
    second_moment = q.mu.square() + q.logvar.exp()
    return gaussian_kl_from_moments(q.mu, second_moment, q.logvar, p).mean()


def gaussian_kl_from_moments(mean: Tensor, second: Tensor, logvar: Tensor, p: Gaussian) -> Tensor:
    """Mean of KL(q || p) over many q at once, for each p.

    The divergence is linear in the mean, the second moment and the log-variance of q; so its
    average over a set of q needs only their averages.

    Args:
        mean: Average of the q's means, ``[B, code_size]``.
        second: Average of their squared means plus variances.
        logvar: Average of their log-variances.
        p: Gaussians ``[B, code_size]``.

    Returns:
        Nats, ``[B]``, summed over dimensions.
    """
    squared = second - 2 * mean * p.mu + p.mu.square()  # E (z - p.mu)^2
    return 0.5 * (squared * torch.exp(-p.logvar) + p.logvar - logvar - 1).sum(1)


def gaussian_nll(p: Gaussian, z: Tensor) -> Tensor:
    """Negative log-likelihood of ``z`` ``[B, code_size]`` under ``p``, less its constant.

    Returns:
        A scalar, in nats per code.

    Raises:
        ValueError: The shapes differ.
    """
    _check_same_shape(p.mu, z)
    nats = (z.float() - p.mu).square() * torch.exp(-p.logvar) + p.logvar
    return 0.5 * nats.sum() / len(z)


def gaussian_log_densities(p: Gaussian, z: Tensor) -> Tensor:
    """Log-density of every code under every Gaussian, less its constant.

    Args:
        p: ``[P, code_size]``.
        z: Codes, float ``[B, code_size]``.

    Returns:
        Float ``[P, B]``, in nats.

    Raises:
        ValueError: The codes are of another size.
    """
    _check_same_shape(p.mu[0], z[0])
    mu, precision, z = p.mu.float(), torch.exp(-p.logvar.float()), z.float()
    constant = (mu.square() * precision + p.logvar).sum(1, keepdim=True)
    return -0.5 * (precision @ z.square().T - 2 * (mu * precision) @ z.T + constant)


def picture_loss(name: str, logits: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The reconstruction loss called ``name``: "l2" or "bce". See the two functions above.

    Args:
        name: "l2" or "bce".
        logits: Float ``[B, 1, S, S]``, before the sigmoid.
        x: Float ``[B, 1, S, S]`` in [0, 1].
        weight: How much each picture counts, ``[B]``; None is 1 each.

    Raises:
        ValueError: Another name, or shapes that differ.
    """
    if name == "l2":
        return squared_error(torch.sigmoid(logits.float()), x, weight)
    if name == "bce":
        return binary_cross_entropy(logits, x, weight)
    raise ValueError(f"loss is {name!r}; allowed are 'l2' and 'bce'")


def picture_losses(name: str, logits: Tensor, x: Tensor) -> Tensor:
    """:func:`picture_loss` of each picture by itself, ``[B]``.

    Raises:
        ValueError: Another name, or shapes that differ.
    """
    check_choice("loss", name, ("l2", "bce"))
    l2 = name == "l2"
    each = _squares(torch.sigmoid(logits.float()), x) if l2 else _cross_entropies(logits, x)
    return each.flatten(1).sum(1)


def rmse(sum_of_squares: float, pictures: int, image_size: int) -> float:
    """Root of the mean, over all pictures and pixels, of the squared error.

    Args:
        sum_of_squares: Summed squared error of all pictures and pixels.
        pictures: How many pictures it was summed over.
        image_size: Side of a picture, in pixels.

    Returns:
        RMSE in grey levels (0 to 1).
    """
    return (sum_of_squares / (pictures * image_size**2)) ** 0.5


def _squares(a: Tensor, b: Tensor) -> Tensor:
    _check_same_shape(a, b)
    return (a.float() - b.float()).square()


def _cross_entropies(logits: Tensor, x: Tensor) -> Tensor:
    _check_same_shape(logits, x)
    return F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none")


def _batch_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Sum over all dimensions but the first, (weighted) mean over the first."""
    if weight is None:
        return losses.sum() / len(losses)
    return losses.flatten(1).sum(1) @ weight / len(losses)


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"the shapes differ: {list(a.shape)} and {list(b.shape)}")
