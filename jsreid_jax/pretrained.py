"""Weights of the official torchvision and timm files, as a backbone to begin with. Needs no torch.

Reads what `torch.save` writes (the zip file of today and the stream before PyTorch 1.6, in which
torchvision's own files still are) and safetensors. A pickle can run any code, so everything in it
but tensors and dictionaries of them is refused.
"""

import dataclasses
import hashlib
import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy

from jsreid_jax import hosts
from jsreid_jax.errors import ModelError
from jsreid_jax.types import PyTree, TrainState

# The type of numbers of a storage, by the name of torch's class.
_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
# As torchvision names its files: resnet50-0676ba61.pth.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
_EXPECTED = (
    "expected the weights of a torchvision or timm model (a .pth of tensors alone, or .safetensors)"
)


@dataclass(frozen=True)
class _Storage:
    """A run of numbers in the file, and its type."""

    key: str
    dtype: type
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; the numbers are read afterwards."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """In place of torch._utils._rebuild_tensor_v2."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor that is none")
    if len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor with a shape that is none")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """In place of torch._utils._rebuild_parameter."""
    return tensor


class _Unpickler(pickle.Unpickler):
    """Knows tensors and dictionaries, and refuses everything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What a name in the file stands for."""
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if module_name == "torch" and global_name in _STORAGES:
            # A name, not the type: what the file makes of it can then call nothing.
            return global_name
        if (module_name, global_name) not in known:
            raise pickle.UnpicklingError(
                f"it holds {module_name}.{global_name}, which is no tensor: save a state_dict alone"
            )
        return known[module_name, global_name]

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage that the file names: ("storage", type, key, place, count, ...)."""
        match pid:
            case ("storage", str(name), str(key), _, int(count), *rest) if name in _STORAGES:
                if any(rest):
                    raise pickle.UnpicklingError("a view of a storage, as very old files have")
                return _Storage(key, _STORAGES[name], count)
        raise pickle.UnpicklingError("a storage that is none")


def _from_zip(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    """The pickled object of a zip file, and what reads a storage."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    [folder] = {name.partition("/")[0] for name in archive.namelist()}
    order = f"{folder}/byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise pickle.UnpicklingError("numbers with the highest byte first")
    pickled = _Unpickler(io.BytesIO(archive.read(f"{folder}/data.pkl"))).load()
    return pickled, lambda storage: archive.read(f"{folder}/data/{storage.key}")


def _from_stream(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    """The same of a file from before PyTorch 1.6: pickles, then the storages one by one."""
    stream = io.BytesIO(content)
    magic, version, system = (_Unpickler(stream).load() for _ in range(3))
    if magic != _STREAM_MAGIC or version != _STREAM_VERSION or not system.get("little_endian"):
        raise pickle.UnpicklingError("another version of the format")
    storages: dict[str, _Storage] = {}

    class Noting(_Unpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            storage = super().persistent_load(pid)
            return storages.setdefault(storage.key, storage)

    pickled = Noting(stream).load()
    found: dict[str, bytes] = {}
    for key in _Unpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        found[key] = stream.read(count * np.dtype(storages[key].dtype).itemsize)
    return pickled, lambda storage: found[storage.key]


def _as_array(tensor: _Tensor, read: Callable[[_Storage], bytes]) -> np.ndarray:
    """The numbers of a tensor."""
    storage = tensor.storage
    content = read(storage)
    if len(content) != storage.count * np.dtype(storage.dtype).itemsize:
        raise pickle.UnpicklingError("a storage that is cut short")
    numbers = np.frombuffer(content, storage.dtype)
    last = tensor.offset + sum(
        (n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True)
    )
    if 0 in tensor.shape or last >= storage.count or math.prod(tensor.shape) > storage.count:
        raise pickle.UnpicklingError("a tensor that lies outside its storage")
    steps = [step * numbers.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps)
    return view.copy()


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file, by its name.

    Raises:
        ModelError: the file is missing, damaged, not the one that its name says, or holds something
            else.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    digest = hashlib.sha256(content).hexdigest()
    named = _HASH_IN_NAME.search(file.name)
    if named and not digest.startswith(named[1]):
        raise ModelError(
            f"{file}: is damaged or another file, its sha256 begins with "
            f"{digest[: len(named[1])]}, expected {named[1]} as its name says: download it again"
        )
    try:
        if file.suffix == ".safetensors":
            return safetensors.numpy.load(content)
        is_zip = content.startswith(b"PK")
        pickled, read = _from_zip(content) if is_zip else _from_stream(content)
        if not isinstance(pickled, Mapping) or not pickled:
            raise pickle.UnpicklingError("it is no dictionary of tensors")
        other = [name for name, value in pickled.items() if not isinstance(value, _Tensor)]
        if other:
            raise pickle.UnpicklingError(f"{other[0]!r} in it is no tensor")
        return {str(name): _as_array(tensor, read) for name, tensor in pickled.items()}
    except Exception as error:  # a damaged pickle, zip file or header raises anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{file}: does not read ({reason}); {_EXPECTED}") from error


def _resnet_name(module: str) -> str:
    """torchvision's name of a module of `backbones.ResNet`."""
    stems = {"stem": "conv1", "stem_norm": "bn1"}
    if module in stems:
        return stems[module]
    block, _, layer = module.partition("/")
    stage, number = re.fullmatch(r"stage_(\d+)_block_(\d+)", block).groups()  # pyright: ignore
    kind, _, place = layer.partition("_")
    layers = {"conv_shortcut": "downsample.0", "norm_shortcut": "downsample.1"}
    name = layers.get(layer) or f"{'conv' if kind == 'conv' else 'bn'}{int(place) + 1}"
    return f"layer{int(stage) + 1}.{number}.{name}"


def _mobilenet_name(module: str) -> str:
    """torchvision's name of a module of `backbones.MobileNetV2`."""
    ends = {"stem": "0.0", "stem_norm": "0.1", "head": "18.0", "head_norm": "18.1"}
    if module in ends:
        return f"features.{ends[module]}"
    block, _, layer = module.partition("/")
    number = block.removeprefix("block_")
    # The first block does not widen, so what follows begins one place earlier.
    first = 0 if number == "1" else 1
    places = {
        "conv_expand": "0.0",
        "norm_expand": "0.1",
        "conv_depthwise": f"{first}.0",
        "norm_depthwise": f"{first}.1",
        "conv_project": f"{first + 1}",
        "norm_project": f"{first + 2}",
    }
    return f"features.{number}.conv.{places[layer]}"


# By backbone: how torchvision names its modules (timm has the same names for residual networks).
_NAMES: dict[str, Callable[[str], str]] = {
    "resnet18": _resnet_name,
    "resnet50": _resnet_name,
    "mobilenet_v2": _mobilenet_name,
}
# That of each of our parameters and statistics.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

BACKBONES = tuple(_NAMES)


def torch_name(backbone: str, path: Any) -> str:
    """torchvision's name of a leaf of {"params", "batch_stats"} of a backbone, by its tree path."""
    _, *modules, kind = (key.key for key in path)
    return f"{_NAMES[backbone]('/'.join(modules))}.{_LEAVES[kind]}"


def backbone_variables(file: Path, backbone: str, like: PyTree) -> PyTree:
    """A file's weights as {"params", "batch_stats"} of a backbone.

    The classifier that the file may hold too is left out.

    Args:
        file: of that architecture.
        backbone: one of BACKBONES.
        like: what the result has the structure and shapes of.

    Returns:
        float32 arrays.

    Raises:
        ModelError: as `read_tensors`; or the file is of another architecture, or not finite.
    """
    tensors = read_tensors(file)

    def convert(path: Any, leaf: jax.Array) -> np.ndarray:
        name = torch_name(backbone, path)
        found = tensors.get(name)
        # Kernels: (height, width, in, out) here, (out, in, height, width) there.
        shape = leaf.shape if leaf.ndim != 4 else tuple(leaf.shape[axis] for axis in (3, 2, 0, 1))
        if found is None or found.shape != shape:
            held = "not there" if found is None else f"of shape {found.shape}"
            raise ModelError(
                f"{file}: is not of {backbone}: {name} is {held}, expected shape {shape}; give the "
                "weights of config.model.backbone"
            )
        array = found.astype(np.float32)
        if not np.isfinite(array).all():
            raise ModelError(f"{file}: {name} holds numbers that are not finite: download it again")
        return array.transpose(2, 3, 1, 0) if leaf.ndim == 4 else array

    return jax.tree_util.tree_map_with_path(convert, like)


def with_pretrained_backbone(state: TrainState, file: Path, backbone: str) -> TrainState:
    """A fresh train state whose backbone has a file's weights.

    Raises:
        ModelError: as `backbone_variables`; or another host has another file.
    """
    where = ("image_stream", "backbone")

    def part(tree: PyTree) -> PyTree:
        return tree[where[0]][where[1]]

    def with_part(tree: PyTree, new: PyTree) -> PyTree:
        return {**tree, where[0]: {**tree[where[0]], where[1]: jax.tree.map(jnp.asarray, new)}}

    params = state.embedder.params
    like = {"params": part(params), "batch_stats": part(state.batch_stats)}
    new = backbone_variables(file, backbone, like)
    numbers = b"".join(leaf.tobytes() for leaf in jax.tree.leaves(new))
    hosts.check_agreement({"pretrained weights": hashlib.sha256(numbers).hexdigest()})
    return dataclasses.replace(
        state,
        embedder=dataclasses.replace(state.embedder, params=with_part(params, new["params"])),
        batch_stats=with_part(state.batch_stats, new["batch_stats"]),
        average=None if state.average is None else with_part(state.average, new["params"]),
    )
