"""The parts of ``model.py`` that are the same for every network."""

from __future__ import annotations

from string import Template
from typing import Final

ATTENTION: Final = '''class Attention(nn.Module):
    """Multi-head self-attention over all positions, channels first, without position encoding."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, T, C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, C / heads)
        return self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)


'''

FILE: Final = Template('''"""$name: $title.

Written by llmnas; needs torch, and safetensors to read the weights.

    python model.py                          # prints shapes and parameters, and checks itself
    from model import load, predict
    model = load()                           # reads model.safetensors beside this file
    predict(images)                          # [(class name, probability), ...]
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = Path(__file__).resolve().parent / "model.safetensors"
INPUT_SHAPE = $shape  # one example, without the batch
MEAN = $mean  # per channel, in the units of the images
STD = $std
CLASS_NAMES = $class_names
PARAMETERS = $parameters
META = $meta
# The logits for sin(0), sin(1), ... with the weights that were exported beside this file:
CHECK = $check


$attention${classes}class $name(nn.Module):
    """Maps normalised examples (B, *INPUT_SHAPE) to logits (B, len(CLASS_NAMES))."""

$model


def load(path: str | Path = WEIGHTS) -> $name:
    """Returns the model with the weights in `path`, ready for inference."""
    try:
        from safetensors.torch import load_file
    except ImportError as fault:
        raise ImportError("reading the weights needs safetensors: pip install safetensors") from fault
    model = $name()
    model.load_state_dict(load_file(path))
    return model.eval()


def normalise(images) -> Tensor:
    """Returns images (B, *INPUT_SHAPE), or one of them, as the batch the model takes.

    Args:
        images: Array or tensor with the values of the training data (0 to 255 for 8-bit images), channels first.
    """
    batch = torch.as_tensor(images).float()
    if batch.dim() == len(INPUT_SHAPE):
        batch = batch[None]
    if tuple(batch.shape[1:]) != INPUT_SHAPE:
        raise ValueError(f"expected images of shape (B, {', '.join(map(str, INPUT_SHAPE))}), got {tuple(batch.shape)}")
    shape = (1, -1) + (1,) * (len(INPUT_SHAPE) - 1)
    return (batch - batch.new_tensor(MEAN).reshape(shape)) / batch.new_tensor(STD).reshape(shape)


def predict(images, model: $name | None = None) -> list[tuple[str, float]]:
    """Returns the most likely class of each image and its probability; loads the weights unless given a model."""
    model = load() if model is None else model.eval()
    with torch.inference_mode():
        best = model(normalise(images).to(next(model.parameters()).device)).softmax(dim=1).max(dim=1)
    return [(CLASS_NAMES[index], value) for value, index in zip(best.values.tolist(), best.indices.tolist())]


def check() -> None:
    """Prints shapes and parameters; fails when the model does not do what was exported."""
    model = load() if WEIGHTS.exists() else $name().eval()
    print("$name:", "weights of " + WEIGHTS.name if WEIGHTS.exists() else "no weights found, initialised at random")
    for name, child in model.named_children():
        count = sum(p.numel() for p in child.parameters())
        child.register_forward_hook(lambda _, __, out, name=name, count=count: print(
            f"  {name:<20} {'x'.join(map(str, out.shape[1:])):<14} {count:>12,} parameters"))
    with torch.inference_mode():
        logits = model(torch.randn(2, *INPUT_SHAPE))
    total = sum(p.numel() for p in model.parameters())
    print(f"  {'total':<35} {total:>12,} parameters")
    if total != PARAMETERS:
        raise SystemExit(f"expected {PARAMETERS:,} parameters")
    if logits.shape != (2, len(CLASS_NAMES)) or not logits.isfinite().all():
        raise SystemExit(f"expected finite logits (2, {len(CLASS_NAMES)}), got {tuple(logits.shape)}: {logits}")
    if CHECK and WEIGHTS.exists():
        _check_logits(load())
    print("ok")


def _check_logits(model: $name) -> None:
    size = torch.Size(INPUT_SHAPE).numel()
    with torch.inference_mode():
        logits = model(torch.arange(size, dtype=torch.float64).sin().float().reshape(1, *INPUT_SHAPE))[0]
    expected = torch.tensor(CHECK)
    far = (logits - expected).abs().max().item()
    if not far <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise SystemExit(f"the logits differ by {far:.2g} from those of the exported network")
    print(f"  logits as exported, within {far:.1g}")


if __name__ == "__main__":
    check()
''')
