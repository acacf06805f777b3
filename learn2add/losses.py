"""Every term of every loss, in one scaling, and the error that training reports.

The scaling: a term is *summed* over pixels (or code dimensions) and *averaged* over the batch. So
terms of one loss are comparable, and a weight of 1 on each gives a likelihood.

The report states its weights for per-element *means* (its Table 1). An image of 28x28 has 784
elements and a code has ``code_size``, so a report weight ``w`` on a mean equals a weight
``w / PIXELS`` (images) or ``w / code_size`` (codes, KL) here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from learn2add.network import Gaussian

PIXELS = 28 * 28
"""Elements of a 28x28 image: the factor between the report's weights and this project's."""


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the squared error of images or codes ``[B, ...]``; nothing is broadcast.

    ``weight`` ``[B]`` is how much each item counts in the mean over the batch; None is 1 each.
    Source: "L2", assignment, Part II item 4 and Part III item 4.
    """
    _check_same_shape(a, b)
    return _batch_mean((a.float() - b.float()).square(), weight)


def binary_cross_entropy(logits: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy against grey levels, in nats per image.

    A grey level ``x`` is read as the probability that the pixel is on. The smallest value is then
    not 0 but the entropy of the grey levels themselves, reached where ``sigmoid(logits) == x``.
    ``weight`` is as above. Source: assignment, Part II item 6.
    """
    return image_loss("bce", logits, x, weight)


def image_loss(name: str, logits: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the reconstruction loss called ``name``, "l2" or "bce": one of the two above."""
    return _batch_mean(_pixel_losses(name, logits, x), weight)


def image_losses(name: str, logits: Tensor, x: Tensor) -> Tensor:
    """Return :func:`image_loss` of each image by itself, ``[B]``."""
    return _pixel_losses(name, logits, x).flatten(1).sum(1)


def _pixel_losses(name: str, logits: Tensor, x: Tensor) -> Tensor:
    _check_same_shape(logits, x)
    if name == "l2":
        return (torch.sigmoid(logits.float()) - x.float()).square()
    if name == "bce":
        return F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none")
    raise ValueError(f"loss is {name!r}; allowed is 'l2' or 'bce'")


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, I)), in nats per code.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix B.
    """
    return gaussian_kl_of_numbers(mu.float(), logvar.float()).sum() / len(mu)


def gaussian_kl_of_units(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return what each number of the code adds to :func:`gaussian_kl`: nats ``[code_size]``."""
    return gaussian_kl_of_numbers(mu.float(), logvar.float()).mean(0)


def gaussian_kl_of_numbers(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the divergence of each number of each code from N(0, 1): ``[B, code_size]``."""
    _check_same_shape(mu, logvar)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def gaussian_kl_between(q: Gaussian, p: Gaussian) -> Tensor:
    """Return KL(q || p) of two diagonal Gaussians, in nats per code."""
    _check_same_shape(q.mu, p.mu)
    second_moment = q.mu.square() + q.logvar.exp()
    return gaussian_kl_from_moments(q.mu, second_moment, q.logvar, p).mean()


def gaussian_kl_from_moments(mean: Tensor, second: Tensor, logvar: Tensor, p: Gaussian) -> Tensor:
    """Return the mean of KL(q || p) over many q at once, for each p: nats ``[B]``.

    The divergence is linear in the mean, the second moment and the log-variance of q; so its
    average over a set of q needs only their averages.
    All are ``[B, code_size]``; ``second`` averages the squared means plus variances.
    """
    squared = second - 2 * mean * p.mu + p.mu.square()  # E (z - p.mu)^2
    return 0.5 * (squared * torch.exp(-p.logvar) + p.logvar - logvar - 1).sum(1)


def gaussian_nll(p: Gaussian, z: Tensor) -> Tensor:
    """Return the negative log-likelihood of codes ``z`` under ``p``, less its constant: nats."""
    _check_same_shape(p.mu, z)
    nats = (z.float() - p.mu).square() * torch.exp(-p.logvar) + p.logvar
    return 0.5 * nats.sum() / len(z)


def gaussian_log_densities(p: Gaussian, z: Tensor) -> Tensor:
    """Return the log-density of every code under every Gaussian, less its constant.

    ``p`` ``[P, code_size]`` and codes ``z`` ``[B, code_size]`` give nats ``[P, B]``.
    """
    _check_same_shape(p.mu[0], z[0])
    mu, precision, z = p.mu.float(), torch.exp(-p.logvar.float()), z.float()
    constant = (mu.square() * precision + p.logvar).sum(1, keepdim=True)
    return -0.5 * (precision @ z.square().T - 2 * (mu * precision) @ z.T + constant)


def rmse(sum_of_squares: float, images: int, image_size: int) -> float:
    """Return the root of the squared error's mean over all images and pixels, in grey levels."""
    return (sum_of_squares / (images * image_size**2)) ** 0.5


def _batch_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Sum over all dimensions but the first, (weighted) mean over the first."""
    if weight is None:
        return losses.sum() / len(losses)
    return losses.flatten(1).sum(1) @ weight / len(losses)


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"the shapes are {list(a.shape)} and {list(b.shape)}; allowed is one")
