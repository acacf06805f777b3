"""Weights and training state on disk: safetensors only, written atomically, never unpickled."""

import contextlib
import json
import os
import uuid
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from learn2add.optim import moments_of

PACKED, SCALE, SHAPE = "|deflated", "|scale", "|shape"


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
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # also when interrupted
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors, and facts as JSON in the file's header."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, to_bytes(contiguous, {"facts": json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind (a pickle, say).
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is missing, damaged or not a safetensors file ({error}); "
            "delete it to train again. Other formats are never read, as they can hold code."
        ) from error
    return tensors, facts


def unpack_weights(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return as float32 what is kept in eight bits, or weights of any float type.

    Each row of a large tensor was kept as int8, its largest element 127, deflated, and one float32
    scale (``tools/publish.py`` packs).
    """
    found = {}
    for key, tensor in tensors.items():
        name = key.removesuffix(PACKED)
        if name == key:
            if not key.endswith((SCALE, SHAPE)):
                found[key] = tensor.float()
            continue
        try:
            steps = bytearray(zlib.decompress(tensor.numpy().tobytes()))
            rows = torch.frombuffer(steps, dtype=torch.int8).view(len(tensors[name + SCALE]), -1)
            scaled = rows * tensors[name + SCALE][:, None]
            found[name] = scaled.view(tensors[name + SHAPE].tolist())
        except (zlib.error, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {name} cannot be unpacked") from error
    return found


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load weights (packed, or of any float type) into ``model`` and return the file's facts.

    Raises:
        CheckpointError: The file is damaged, or its tensors are not those of this model.
    """
    tensors, facts = load_tensors(path)
    tensors = unpack_weights(path, tensors)
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    came = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if came != expected:
        odd = sorted(name for name in expected | came if expected.get(name) != came.get(name))
        raise CheckpointError(f"{path} holds another model: {', '.join(odd[:5])} do not fit")
    model.load_state_dict(tensors)
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
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    try:
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
