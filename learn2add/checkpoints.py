"""Weights and training state on disk: safetensors only, written atomically, never unpickled."""

import contextlib
import hashlib
import json
import math
import os
import re
import uuid
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from learn2add.optim import moments_of

PACKED, SCALE, SHAPE = "|deflated", "|scale", "|shape"
EIGHT_BITS_FROM = 50_000
"""Elements of a tensor that is kept in eight bits. Four layers have as many, 98 % of all weights;
the code's own layer is not among them: rounding its rows would show in every image."""
NO_CHECKSUM = "0" * 64
"""Stands in a file where its SHA-256 will, while that is computed."""


class CheckpointError(RuntimeError):
    """A file of a run is damaged, or is not what its name says."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; an OSError names it, and nothing half-written is left."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _keep_names(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # also when interrupted
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _keep_names(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can (Windows cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_half_written(folder: Path) -> None:
    """Remove what :func:`write_atomically` left in a folder when its process was killed."""
    for file in folder.glob(".*.????????"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", file.name):
            file.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors, and facts as JSON in the file's header, with the SHA-256 of it all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = to_bytes(contiguous, {"facts": json.dumps(facts | {"sha256": NO_CHECKSUM})})
    checksum = hashlib.sha256(content).hexdigest()
    write_atomically(path, content.replace(NO_CHECKSUM.encode(), checksum.encode(), 1))


def load_tensors(
    path: Path, remedy: str = "delete its folder to train again"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind (a pickle, say).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    try:
        tensors = from_bytes(content)
        length = 8 + int.from_bytes(content[:8], "little")
        labels = json.loads(content[8:length]).get("__metadata__") or {}
        facts = json.loads(labels.get("facts", "{}"))
        checksum = facts.pop("sha256", "").encode()
        blank = content[:length].replace(checksum, NO_CHECKSUM.encode(), 1) + content[length:]
        if len(checksum) != 64 or hashlib.sha256(blank).hexdigest().encode() != checksum:
            raise ValueError("its checksum is wrong")
    except (SafetensorError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({error}); {remedy}. "
            "Other formats are never read, as they can hold code."
        ) from error
    return tensors, facts


def in_eight_bits(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows as int8 ``[R, N]``, the largest element of each 127, and scales ``[R, 1]``."""
    rows = tensor.detach().float().flatten(1)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    return (rows / scale).round().to(torch.int8), scale


def unpack_weights(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return as float32 what is kept in eight bits, or weights of any float type.

    Each row of a large tensor was kept as int8, its largest element 127, deflated, and one float32
    scale (``tools/publish.py`` packs).
    """
    found = {}
    for name, shape in shapes_of(tensors).items():
        if name in tensors:
            found[name] = tensors[name].float()
            continue
        try:
            scale, size = tensors[name + SCALE], math.prod(shape)
            inflater = zlib.decompressobj()
            # No more than the shape says: a small file cannot fill the memory.
            steps = inflater.decompress(tensors[name + PACKED].numpy().tobytes(), size + 1)
            if len(steps) != size or not inflater.eof:
                raise ValueError(f"not {size} bytes")
            rows = torch.frombuffer(bytearray(steps), dtype=torch.int8).view(len(scale), -1)
            found[name] = (rows * scale[:, None]).view(shape)
        except (zlib.error, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {name} cannot be unpacked") from error
    return found


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    """Return the shape of each weight in a file, packed or not."""
    shapes = {}
    for key, tensor in tensors.items():
        name, _, part = key.partition("|")
        if not part:
            shapes[name] = list(tensor.shape)
        elif key.endswith(SHAPE):
            shapes[name] = tensor.tolist()
    return shapes


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load weights (packed, or of any float type) into ``model`` and return the file's facts.

    Raises:
        CheckpointError: The file is damaged, or its tensors are not those of this model.
    """
    tensors, facts = load_tensors(path)
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    came = shapes_of(tensors)
    if came != expected:
        odd = sorted(name for name in expected | came if expected.get(name) != came.get(name))
        raise CheckpointError(f"{path} holds another model: {', '.join(odd[:5])} do not fit")
    model.load_state_dict(unpack_weights(path, tensors))
    return facts


def pack_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return model and optimiser state as one flat dictionary of tensors."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in state.items()}
    return tensors


def unpack_model(path: Path, tensors: dict[str, Tensor], model: nn.Module) -> None:
    """Put the model's tensors of :func:`pack_state`, read from ``path``, back."""
    own = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds another model: {error}") from error


def unpack_optimiser(
    path: Path, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> None:
    """Put the optimiser's tensors of :func:`pack_state`, read from ``path``, back."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = tensor
        if sorted(state) != list(range(len(parameters))):
            raise KeyError(f"moments of {len(state)} parameters, not of {len(parameters)}")
        for number, parameter in enumerate(parameters):
            for key in moments_of(optimiser, parameter):
                # The fused kernel pairs elements by their place in memory: same layout, or garbage.
                moments = torch.empty_like(parameter, requires_grad=False)
                state[number][key] = moments.copy_(state[number][key].view(parameter.shape))
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds another optimiser: {error}") from error
