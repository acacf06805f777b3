"""What codes and reconstructions of auto-decoders are worth, in units that can be compared."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learn2add.checks import check_int
from learn2add.data import as_float
from learn2add.evidence import frechet_distance
from learn2add.judge import Judge
from learn2add.models import BATCH
from learn2add.objectives import PIXELS


class PictureErrors(NamedTuple):
    """How far drawn pictures are from the real ones."""

    mse: float
    """Squared error per pixel, mean over all pictures and pixels, in squared grey levels (0..1)."""
    psnr: float
    """-10 log10 of a picture's squared error per pixel, mean over the pictures, in dB."""

    @property
    def rmse(self) -> float:
        """Root of ``mse``, in grey levels."""
        return self.mse**0.5

    def report_loss(self, batch_size: int) -> float:
        """The loss of report 004 for batches of so many pictures; see :func:`report_loss`."""
        return report_loss(self.rmse, batch_size)


def picture_errors(mse: Tensor) -> PictureErrors:
    """Of the squared error per pixel of each picture, ``[N]``."""
    mse = mse.double()
    return PictureErrors(float(mse.mean()), float(-10 * mse.clamp(min=1e-10).log10().mean()))


def report_loss(rmse: float, batch_size: int) -> float:
    """An RMSE in grey levels of 0 to 1 as report 004's loss.

    The report's ``evaluate.py`` is its course's: the norm of the difference of a whole batch, in
    grey levels of 0 to 255, over the number of its elements, ``||x - x_hat|| / (B * 784)``. That
    falls with the root of the batch, which the report does not state.

    Args:
        rmse: Root of the mean squared error over the batch.
        batch_size: B.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    return 255 * rmse / (PIXELS * check_int("batch_size", batch_size, 1)) ** 0.5


def code_accuracy(z: Tensor, labels: Tensor, z_new: Tensor, labels_new: Tensor) -> dict[str, float]:
    """How well simple classifiers tell the classes from codes.

    Args:
        z: Codes to learn from, ``[N, C]``.
        labels: Their classes, ``[N]``.
        z_new: Codes to be told, ``[M, C]``.
        labels_new: Their classes, ``[M]``.

    Returns:
        Shares told rightly by "logistic regression" and by the "5 nearest neighbours".
    """
    from sklearn.linear_model import LogisticRegression  # a part of the notebooks' extra
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = {
        "logistic regression": LogisticRegression(max_iter=1000, C=0.1),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    found = {}
    for name, kind in kinds.items():
        fitted = make_pipeline(StandardScaler(), kind).fit(z.cpu().numpy(), labels.cpu().numpy())
        found[name] = float(fitted.score(z_new.cpu().numpy(), labels_new.cpu().numpy()))
    return found


@torch.no_grad()
def drawn(decoder: nn.Module, z: Tensor) -> Tensor:
    """Pictures of codes ``[N, C]``: float ``[N, 1, S, S]``; any number, in parts."""
    return torch.cat([decoder(part) for part in z.split(BATCH)])


def distance_to_real(judge: Judge, pictures: Tensor, real: Tensor) -> float:
    """Fréchet distance in a judge's features.

    Args:
        judge: Of that data set.
        pictures: Float ``[N, 1, S, S]`` in [0, 1].
        real: Real pictures, uint8 ``[M, S, S]``.
    """
    return frechet_distance(_features(judge, pictures), _features(judge, as_float(real)))


def _features(judge: Judge, pictures: Tensor) -> NDArray[np.float32]:
    return judge.features(pictures).cpu().numpy()
