"""The peers' side, in an environment of its own (requirements-peers.txt): answers requests on its standard input.

    python peers_torch.py network.npz

Each request is one word, each answer one line of JSON. The network is VGG-16 with an s x s classifier, its weights
from `tools.benchmarks.peers`. Written as users of PyTorch would write it: pytorch-grad-cam for one map; for N of them
`unfold` for the expansion, a mask, and autograd.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# pytorch-grad-cam takes transforms from torchvision. Beside a CPU build of torch, PyPI's torchvision cannot load its
# own operators and then fails to describe these two: a declaration is all that it needs here.
for _operator in ("nms", "qnms"):
    torch.library.define(f"torchvision::{_operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
from pytorch_grad_cam import GradCAM, HiResCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402


class Network(nn.Module):
    """Dilated VGG-16 (stride 8, as DeepLab-LargeFOV) and an s x s convolution with global average pooling."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            if block > 1:
                layers.append(nn.MaxPool2d(3, 2 if block < 5 else 1, padding=1))
            for k in range(1, count + 1):
                kernel = arrays[f"conv{block}_{k}/W"]
                dilation = 2 if block == 5 else 1
                layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=dilation, dilation=dilation)
                _assign(layer, kernel, arrays[f"conv{block}_{k}/b"])
                layers += [layer, nn.ReLU()]
        self.features = nn.Sequential(*layers)
        size, _, channels, classes = arrays["head/W"].shape
        self.classifier = nn.Conv2d(channels, classes, size, padding=size // 2)
        _assign(self.classifier, arrays["head/W"], arrays["head/b"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `[b, classes]` logits of `[b, 3, side, side]`."""
        return self.classifier(self.features(x)).mean((2, 3))


def _assign(layer: nn.Conv2d, kernel: np.ndarray, bias: np.ndarray) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        layer.bias.copy_(torch.from_numpy(bias))


def one_map(network: Network, image: torch.Tensor, method: type, tag: int) -> np.ndarray:
    """One map by pytorch-grad-cam, `[side, side]`, 0..1; `method` is one of its classes."""
    with method(model=network, target_layers=[network.features[-1]]) as cam:
        return cam(input_tensor=image, targets=[ClassifierOutputTarget(tag)])[0]


def stochastic_maps(network: Network, image: torch.Tensor, tag: int, count: int, rate: float) -> torch.Tensor:
    """Mean of `count` maps on random selections, `[h, w]`, each by its own maximum."""
    with torch.no_grad():
        features = network.features(image)
    kernel, size = network.classifier.weight, network.classifier.kernel_size[0]
    height, width = features.shape[2:]
    total = torch.zeros(height, width)
    for _ in range(count):
        x = features.detach().requires_grad_()
        windows = functional.unfold(x, size, padding=size // 2).view(1, x.shape[1], size**2, height * width)
        mask = (torch.rand(1, 1, size**2, height * width) >= rate).float()
        mask[:, :, size**2 // 2] = 1
        windows = (windows * mask).view(1, -1, height * width)
        score = (kernel[tag].reshape(1, -1) @ windows).mean() + network.classifier.bias[tag]
        gradient, = torch.autograd.grad(score, x)
        cam = torch.relu((x * gradient).sum(1)[0]).detach()
        total += cam / cam.max().clamp_min(1e-12)
    return total / count


def main() -> None:
    """Answers requests until the input ends."""
    path = pathlib.Path(sys.argv[1])
    arrays = dict(np.load(path))
    network = Network(arrays).eval()
    image = torch.from_numpy(arrays["image"].transpose(0, 3, 1, 2).copy())
    tag, few, rate = (arrays[name].item() for name in ("tag", "few", "rate"))
    works = {
        "pass": lambda: network(image).detach().numpy(),
        "gradcam": lambda: one_map(network, image, GradCAM, tag),
        "hirescam": lambda: one_map(network, image, HiResCAM, tag),
        "stochastic": lambda: stochastic_maps(network, image, tag, few, rate).numpy(),
    }
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        result = works[line.strip()]()
        np.save(path.with_name(f"{line.strip()}.npy"), result)
        print(json.dumps({"shape": list(result.shape)}), flush=True)


if __name__ == "__main__":
    main()
