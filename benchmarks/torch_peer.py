"""The same networks and the same alternating step in PyTorch, to be timed beside this project's.

Written as a PyTorch user would: modules, autograd, fused optimizers, channels-last memory. Module
names are those of the Flax parameters, so that weights carry over and losses can be compared before
anything is timed. Guided attention and the losses of the rendered default are here, nothing else.

    python -m benchmarks.torch_peer FOLDER

is what a row starts: it reads what `benchmarks/training.py` put into the folder, says the losses of
its first step, and then takes "step N" and "embed N" line by line and answers each when it is done.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACE_SCALE = 10.0
STAGES = {
    "resnet50": ((3, 4, 6, 3), (64, 128, 256, 512)),
    "resnet_small": ((1, 1, 1), (32, 64, 128)),
}


def conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    """Without bias, padded to keep the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)


class Block(nn.Module):
    """A basic or bottleneck residual block."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        if bottleneck:
            layers = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
        else:
            layers = [(3, stride, width), (3, 1, width)]
        self.depth = len(layers)
        x = inputs
        for i, (kernel, step, outputs) in enumerate(layers):
            self.add_module(f"conv_{i}", conv(x, outputs, kernel, step))
            self.add_module(f"norm_{i}", nn.BatchNorm2d(outputs))
            x = outputs
        self.has_shortcut = stride != 1 or inputs != x
        if self.has_shortcut:
            self.conv_shortcut = conv(inputs, x, 1, stride)
            self.norm_shortcut = nn.BatchNorm2d(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w)."""
        y = x
        for i in range(self.depth):
            y = getattr(self, f"norm_{i}")(getattr(self, f"conv_{i}")(y))
            if i < self.depth - 1:
                y = F.relu(y)
        if self.has_shortcut:
            x = self.norm_shortcut(self.conv_shortcut(x))
        return F.relu(x + y)


class Backbone(nn.Module):
    """resnet50 or resnet_small."""

    def __init__(self, name: str, last_stride: int):
        super().__init__()
        sizes, widths = STAGES[name]
        self.is_small = name == "resnet_small"
        if self.is_small:
            self.stem_0 = conv(3, widths[0] // 2, 3, 2)
            self.stem_norm_0 = nn.BatchNorm2d(widths[0] // 2)
            self.stem = conv(widths[0] // 2, widths[0], 3, 2)
        else:
            self.stem = conv(3, 64, 7, 2)
        x = widths[0] if self.is_small else 64
        self.stem_norm = nn.BatchNorm2d(x)
        self.names: list[list[str]] = []
        self.widths = []
        for stage, (blocks, width) in enumerate(zip(sizes, widths, strict=True)):
            last = stage == len(sizes) - 1
            stride = 1 if stage == 0 else last_stride if last else 2
            self.names.append([])
            for block in range(blocks):
                name = f"stage_{stage}_block_{block}"
                module = Block(x, width, stride if block == 0 else 1, not self.is_small)
                self.add_module(name, module)
                self.names[stage].append(name)
                x = width if self.is_small else 4 * width
            self.widths.append(x)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to every stage's map."""
        if self.is_small:
            x = F.relu(self.stem_norm_0(self.stem_0(x)))
        x = F.relu(self.stem_norm(self.stem(x)))
        if not self.is_small:
            x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for names in self.names:
            for name in names:
                x = getattr(self, name)(x)
            maps.append(x)
        return maps


class Mlp(nn.Module):
    """Dense layers, with BatchNorm and ReLU or with leaky ReLU between."""

    def __init__(self, inputs: int, widths: list[int], use_batch_norm: bool = True):
        super().__init__()
        self.depth, self.use_batch_norm = len(widths), use_batch_norm
        for i, width in enumerate(widths):
            self.add_module(f"dense_{i}", nn.Linear(inputs, width))
            if use_batch_norm and i < self.depth - 1:
                self.add_module(f"norm_{i}", nn.BatchNorm1d(width))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, any)."""
        for i in range(self.depth):
            x = getattr(self, f"dense_{i}")(x)
            if i < self.depth - 1:
                if self.use_batch_norm:
                    x = F.relu(getattr(self, f"norm_{i}")(x))
                else:
                    x = F.leaky_relu(x, 0.2)
        return x


class HiddenLayer(nn.Module):
    """Of each place by itself."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.hidden, self.norm = nn.Linear(inputs, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B * h * w, width)."""
        return F.relu(self.norm(self.hidden(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]))))


class Prediction(nn.Module):
    """Every group's attributes from its own pooled feature."""

    def __init__(self, sizes: list[int], width: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(sum(sizes), width))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.register_buffer("group", group, persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, R, width) to (B, A)."""
        return (F.relu(pooled)[:, self.group] * self.kernel).sum(-1) + self.bias


class Attention(nn.Module):
    """Guided attention; both stages are of the same size."""

    def __init__(self, channels: list[int], config: dict[str, Any], token_width: int):
        super().__init__()
        sizes, width = config["group_sizes"], config["attention_width"]
        self.width = width
        self.early, self.late = (HiddenLayer(inputs, 2 * width) for inputs in channels)
        self.key, self.early_value = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.value, self.query = nn.Linear(2 * width, width), nn.Linear(token_width, width)
        self.place = nn.Parameter(torch.zeros(len(sizes), config["places"]))
        self.register_buffer("prior", torch.tensor(config["place_prior"]))
        self.early_prediction = Prediction(sizes, width)
        self.late_prediction = Prediction(sizes, width)

    def forward(
        self, early: Tensor, late: Tensor, group_queries: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """(B, C, h, w) to features (B, R, width) and, to train, both predictions (B, A)."""
        batch = len(early)
        hidden = self.early(early)
        keys = self.key(hidden).reshape(batch, -1, self.width)
        values = self.value(self.late(late)).reshape(batch, -1, self.width)
        scores = self.query(group_queries) @ keys.transpose(1, 2) / math.sqrt(self.width)
        maps = (scores + PLACE_SCALE * self.place + self.prior).softmax(-1)
        pooled = maps.detach() @ values
        if not self.training:
            return pooled, []
        seen = maps @ self.early_value(hidden).reshape(batch, -1, self.width)
        return pooled, [self.late_prediction(pooled), self.early_prediction(seen)]


class ImageStream(nn.Module):
    """Backbone, attention, projection."""

    def __init__(self, config: dict[str, Any], token_width: int):
        super().__init__()
        self.backbone = Backbone(config["backbone"], config["last_stride"])
        self.attention = Attention(self.backbone.widths[-2:], config, token_width)
        features = self.backbone.widths[-1] + len(config["group_sizes"]) * config["attention_width"]
        self.feature_norm = nn.BatchNorm1d(features)
        self.projection = Mlp(features, config["projection_widths"])

    def forward(self, image: Tensor, group_queries: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) to embeddings (B, D), not normalised, and `Attention`'s predictions."""
        *_, early, late = self.backbone(image)
        pooled, predictions = self.attention(early, late, group_queries)
        features = torch.cat([late.mean((2, 3)), pooled.flatten(1)], 1)
        return self.projection(self.feature_norm(features)), predictions


class AttributeStream(nn.Module):
    """Tokens and an MLP."""

    def __init__(self, sizes: list[int], widths: list[int]):
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(sum(sizes), widths[0]))
        self.token_norm = nn.BatchNorm1d(widths[0])
        self.mlp = Mlp(widths[0], widths[1:])
        averages = torch.block_diag(*[torch.full((1, size), 1.0 / size) for size in sizes])
        self.register_buffer("averages", averages, persistent=False)

    def forward(self, description: Tensor) -> Tensor:
        """(B, A) to (B, D), not normalised."""
        return self.mlp(F.relu(self.token_norm(description @ self.tokens)))

    def group_queries(self) -> Tensor:
        """(R, T)."""
        return self.averages @ self.tokens


class Embedder(nn.Module):
    """Both streams and the heads."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        widths = config["attribute_widths"]
        self.scale = config["concept_scale"]
        self.attribute_stream = AttributeStream(config["group_sizes"], widths)
        self.image_stream = ImageStream(config, widths[0])
        self.concept_classifier = nn.Linear(widths[-1], config["num_categories"])
        self.attribute_head = nn.Linear(widths[-1], sum(config["group_sizes"]))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.group_weights = nn.Parameter(torch.zeros(len(config["group_sizes"])))

    def embed_images(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Unit vectors (B, D), and `Attention`'s predictions."""
        found, predictions = self.image_stream(image, self.attribute_stream.group_queries())
        return F.normalize(found), predictions


def attribute_loss(logits: Tensor, attributes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over known attributes, by row; weights (2, A) of present and absent."""
    known = attributes.abs()
    losses = -F.logsigmoid(logits * attributes) * known
    if weights is not None:
        losses = losses * torch.where(attributes > 0, weights[0], weights[1])
    return (losses.sum(1) / known.sum(1).clamp(min=1.0)).mean()


def is_true_of(description: Tensor, attributes: Tensor) -> Tensor:
    """(B, B) 1.0 where a description holds."""
    return (description @ attributes.T == description.abs().sum(1, keepdim=True)).float()


def info_nce(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy with the even distribution over positives."""
    positives = positives / positives.sum(1, keepdim=True)
    return -(positives * logits.log_softmax(1)).sum(1).mean()


class Game:
    """Both players, their optimizers, and the average of the embedder's parameters."""

    def __init__(self, config: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.weights = config["weights"]
        self.map_weights = torch.from_numpy(arrays["map_weights"])
        self.embedder = Embedder(config)
        width = config["attribute_widths"][-1]
        self.judge = Mlp(width, [512, 256, 1], use_batch_norm=False)
        self.width = width
        load(self.embedder, arrays, "embedder/")
        load(self.judge, arrays, "discriminator/mlp/")
        self.embedder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        parameters = list(self.embedder.parameters())
        self.embedder_optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1]},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config["rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )
        self.judge_optimizer = torch.optim.Adam(
            self.judge.parameters(), lr=config["discriminator_rate"], fused=True
        )
        self.average = [p.detach().clone() for p in parameters]
        self.decay = config["average_decay"]
        self.whole_share = 1.0 - config["description_dropout"]

    def logits(self, embedding: Tensor) -> Tensor:
        """(B,) of the discriminator."""
        return self.judge(math.sqrt(self.width) * embedding)[:, 0]

    def step(
        self, image: Tensor, attributes: Tensor, description: Tensor, label: Tensor
    ) -> dict[str, Tensor]:
        """One alternating step; the losses before it."""
        embedder = self.embedder
        of_image, (group_logits, map_logits) = embedder.embed_images(image)
        of_text = F.normalize(embedder.attribute_stream(description))

        whole = (description == attributes).all(1)
        counts = whole / self.whole_share
        real, made = self.logits(of_image.detach()), self.logits(of_text.detach())
        judged = -(F.logsigmoid(real) + counts * F.logsigmoid(-made)).mean()
        self.judge_optimizer.zero_grad()
        judged.backward()
        self.judge_optimizer.step()

        concepts = embedder.scale * of_image, embedder.scale * of_text
        of_category = F.cross_entropy(
            embedder.concept_classifier(concepts[1]), label, reduction="none"
        )
        for parameter in self.judge.parameters():
            parameter.requires_grad_(False)
        scores = of_image @ of_text.T * torch.exp(-embedder.log_temperature)
        true = is_true_of(description, attributes)
        parts = {
            "image_concept": F.cross_entropy(embedder.concept_classifier(concepts[0]), label),
            "attribute_concept": (of_category * whole).mean(),
            "adversary": -(counts * F.logsigmoid(self.logits(of_text))).mean(),
            "consistency": 1.0 - (of_image * of_text).sum(1).mean(),
            "contrastive": 0.5 * (info_nce(scores, true.T) + info_nce(scores.T, true)),
            "group_prediction": 0.5 * attribute_loss(group_logits, attributes)
            + 0.5 * attribute_loss(map_logits, attributes, self.map_weights),
            "attribute_head": attribute_loss(embedder.attribute_head(concepts[0]), attributes),
            "description_head": attribute_loss(embedder.attribute_head(concepts[1]), description),
        }
        total = sum(self.weights[name] * part for name, part in parts.items())
        self.embedder_optimizer.zero_grad()
        total.backward()  # pyright: ignore[reportAttributeAccessIssue]
        self.embedder_optimizer.step()
        for parameter in self.judge.parameters():
            parameter.requires_grad_(True)
        with torch.no_grad():
            own = list(self.embedder.parameters())
            torch._foreach_lerp_(self.average, own, 1.0 - self.decay)
        return parts | {"discriminator": judged}


def load(module: nn.Module, arrays: dict[str, np.ndarray], prefix: str) -> None:
    """Weights from Flax's arrays by path."""
    for name, parameter in module.named_parameters():
        path, _, leaf = name.rpartition(".")
        layer = module.get_submodule(path)
        is_kernel = leaf == "weight" and isinstance(layer, nn.Conv2d | nn.Linear)
        if leaf == "weight":
            leaf = "kernel" if is_kernel else "scale"
        array = arrays[prefix + f"{path}/{leaf}".replace(".", "/").lstrip("/")]
        if is_kernel:
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(array, order="C")))


def main() -> None:
    """Answer a row's commands."""
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    torch.set_num_threads(config["threads"])
    arrays = dict(np.load(folder / "arrays.npz"))
    game = Game(config, arrays)
    batches = []
    for number in range(config["batches"]):
        image = torch.from_numpy(arrays[f"batch_{number}/image"]).permute(0, 3, 1, 2)
        image = image.contiguous(memory_format=torch.channels_last)
        others = [
            torch.from_numpy(arrays[f"batch_{number}/{name}"])
            for name in ("attributes", "description", "label")
        ]
        batches.append((image, others[0], others[1], others[2].long()))
    losses = game.step(*batches[0])
    print(json.dumps({name: value.item() for name, value in losses.items()}), flush=True)
    for line in sys.stdin:
        what, count = line.split()
        if what == "step":
            game.embedder.train()
            for number in range(int(count)):
                game.step(*batches[number % len(batches)])
        else:
            game.embedder.eval()
            with torch.inference_mode():
                for number in range(int(count)):
                    game.embedder.embed_images(batches[number % len(batches)][0])
        print("done", flush=True)


if __name__ == "__main__":
    main()
