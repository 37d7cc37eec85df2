"""Wrote the files beside it, with PyTorch 2.13 and safetensors 0.8; tests read them without torch.

python tests/weights/write.py (in an environment that has torch)
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent


def main() -> None:
    """A few small tensors of several kinds, in every format that is read."""
    numbers = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = OrderedDict(
        numbers=numbers,
        # A view of the same storage, turned round, which does not begin at its start.
        turned=numbers[1].t(),
        half=torch.tensor([0.5, -2.0], dtype=torch.float16),
        brain=torch.tensor([1.5, 3.0], dtype=torch.bfloat16),
        parameter=torch.nn.Parameter(torch.tensor([[7.0]])),
        count=torch.tensor(5),
    )
    torch.save(tensors, FOLDER / "zip.pth")
    torch.save(tensors, FOLDER / "stream.pth", _use_new_zipfile_serialization=False)
    del tensors["brain"]
    safe = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(safe, FOLDER / "safe.safetensors")
    torch.save(torch.nn.Linear(2, 2), FOLDER / "module.pth")


if __name__ == "__main__":
    main()
