"""Reads weights without running code from them; writes folders that appear whole or not at all."""

import contextlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clapjax.audio.impostors import HEAD_BYTES, impostor
from clapjax.data.paths import as_path, copy_folder, is_local, local_folder, naming
from clapjax.interop import pickles
from clapjax.interop.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"


def read_json(file: Path) -> dict:
    """A JSON object.

    Raises:
      CheckpointError: missing, damaged, or something other than an object.
    """
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent}: no {file.name} here") from None
    except (OSError, ValueError, RecursionError) as error:
        _refuse_impostor(file)
        raise CheckpointError(f"{file}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object")
    return value


def read_weights(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    """The tensors of a Hugging Face folder, safetensors where there are any, and their file.

    Raises:
      CheckpointError: no weights, or damaged ones.
    """
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS), folder / WEIGHTS
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(_plain(name) for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX}: no weight_map of file names")
        tensors = {}
        for name in sorted(set(shards.values())):
            tensors |= read_safetensors(folder / name)
        return tensors, folder / INDEX
    if (folder / PICKLED).is_file():
        found = read_torch(folder / PICKLED)
        return tensors_of(found, folder / PICKLED), folder / PICKLED
    raise CheckpointError(f"{folder}: no {WEIGHTS} and no {PICKLED} here")


def _plain(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
      CheckpointError: missing or damaged.
    """
    import ml_dtypes  # noqa: F401  (numpy learns bfloat16 from it)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        _refuse_impostor(file)
        raise CheckpointError(f"{file}: damaged or no safetensors file ({error})") from error


def _refuse_impostor(file: Path) -> None:
    """Raises CheckpointError where a file that cannot be read is something else altogether."""
    with contextlib.suppress(OSError), open(file, "rb") as stream:
        if what := impostor(stream.read(HEAD_BYTES)):
            raise CheckpointError(f"{file}: is {what}")


def read_torch(file: Path):
    """What torch saved in `file`: tensors, containers, numbers and strings; nothing is executed.

    Pickles of protocol 3 to 5, which torch's own safe reader does not know, are read as well.

    Raises:
      CheckpointError: damaged, or it holds Python objects that only running its code would make.
      ImportError: PyTorch is not installed.
    """
    torch = _torch()
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # it loads, or does not
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                if "Unsupported operand" not in str(error):
                    raise
            return pickles.load(file)
    except Exception as error:  # a damaged pickle fails in as many ways as there are bytes
        _refuse_impostor(file)
        # torch puts advice to trust the file in front of what happened.
        text = str(error).rpartition("WeightsUnpickler error:")[2]
        lines = [line.strip() for line in text.splitlines() if "Weights only load" not in line]
        reason = next(filter(None, lines), type(error).__name__)
        told = "it holds more than weights" if "GLOBAL" in reason else "damaged, or not by torch"
        raise CheckpointError(f"{file}: {told} ({reason})") from error


def tensors_of(found: object, source: object) -> dict[str, np.ndarray]:
    """The tensors of a loaded torch object as numpy arrays: a state dict, or one inside.

    Raises:
      CheckpointError: there is no state dict.
    """
    torch = _torch()
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise CheckpointError(f"{source}: holds {type(found).__name__}, not a state dict")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            continue
        try:
            value = value.detach()
            tensors[name] = (value.float() if value.is_floating_point() else value).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantized, without data
            raise CheckpointError(f"{source}: {name} is no plain tensor ({error})") from error
    if not tensors:
        raise CheckpointError(f"{source}: a state dict without tensors")
    return tensors


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "PyTorch is needed to read .pt, .pth and .bin files: pip install clapjax[torch]",
            name="torch",
        ) from error
    return torch


def _numpy_scalars() -> list:
    """What a pickled numpy number names (LAION's files hold a few); none of it runs code."""
    scalar = np._core.multiarray.scalar
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """A folder to write into that takes its name only when the block ends without an error.

    Raises:
      CheckpointError: there is something of that name already.
    """
    folder = as_path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder}: exists already; name a new folder")
    if not is_local(folder):
        with local_folder(folder, folder.name) as partial:
            yield partial
            copy_folder(partial, folder)
        return
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        with naming(folder):
            yield partial
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
