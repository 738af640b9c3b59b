"""The same weights and image in PyTorch: pytorch-grad-cam's maps, and N stochastic passes as its users would write."""

import json
import pathlib
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import backbones, pretrained, stochastic
from tools.benchmarks import inputs, measure
from tools.benchmarks.localization import head_of
from tools.benchmarks.tables import Cell, Table

FEW = 2  # stochastic passes that the peer is timed for; its time is proportional to their number
TAG = 0


class Peer:
    """The process of `peers_torch.py`; `facts` is what it says of itself.

    Args:
      python: of the environment with requirements-peers.txt.
      path: the .npz with network and image.

    Raises:
      UserError: it does not start.
    """

    def __init__(self, python: str, path: pathlib.Path) -> None:
        script = pathlib.Path(__file__).with_name("peers_torch.py")
        try:
            self._process = subprocess.Popen([python, str(script), str(path)], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise UserError(f"peers_python: expected the Python of an environment with requirements-peers.txt, "
                            f"found {error}") from error
        self._directory, self.facts = path.parent, self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # of the pipe that `__init__` asked for; so is stdin below
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"peers: the process ended with {self._process.wait()}; its environment needs what "
                            "requirements-peers.txt pins")
        return json.loads(line)

    def ask(self, name: str) -> np.ndarray:
        """Does a work of `peers_torch.py`; returns its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        self._answer()
        return np.load(self._directory / f"{name}.npy")

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables.

    Raises:
      UserError: --peers_python is not given, or that environment lacks something.
    """
    if options.peers_python is None:
        raise UserError("peers: expected --peers_python, the Python of an environment with requirements-peers.txt")
    size = options.size
    network = backbones.build("vgg16", "head")
    pretrained.load_weights(network, options.weights)
    normalization = pretrained.normalization_of(options.weights)
    image = images.normalize(inputs.batch(options.photo_dir, 1, size.side), normalization)
    head = head_of(measure.Size(**{**vars(size), "channels": 512}))
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "network.npz"
        np.savez(path, **_arrays(network, head), image=image, tag=TAG, few=FEW, rate=size.rate)
        peer = Peer(options.peers_python, path)
        try:
            return [compared(options, peer, network, head, image)]
        finally:
            peer.close()


def _arrays(network: keras.Model, head: stochastic.StochasticHead) -> dict[str, Any]:
    arrays = {"head/W": head.kernel.numpy(), "head/b": head.bias.numpy()}
    for layer in network.layers:
        if layer.weights:
            name = layer.name.replace("block", "conv").replace("_conv", "_")
            arrays[f"{name}/W"], arrays[f"{name}/b"] = layer.get_weights()
    return arrays


def compared(options: measure.Options, peer: Peer, network: keras.Model, head: stochastic.StochasticHead,
             image: tf.Tensor) -> Table:
    """Times both sides in turn and compares one deterministic map."""
    size = options.size

    def ours(mode: str, count: int) -> Callable[[], np.ndarray]:
        @tf.function
        def mean_map(x: tf.Tensor) -> tf.Tensor:
            maps = aggregation.localize(head, network(x)[0], tf.constant([TAG]), tf.constant([1, 2]),
                                        aggregation.Options(num_maps=count, mode=mode))
            return maps["mean"][..., 0]
        return lambda: mean_map(image).numpy()

    forward = tf.function(lambda x: head.logits(network(x)))
    works: dict[str, Callable[[], np.ndarray]] = {
        "network alone, PyTorch": lambda: peer.ask("pass"),
        "network alone, ours": lambda: forward(image).numpy(),
        "one GradCAM, pytorch-grad-cam": lambda: peer.ask("gradcam"),
        "one HiResCAM, pytorch-grad-cam": lambda: peer.ask("hirescam"),
        "one deterministic map, ours": ours("deterministic", 1),
        f"{FEW} stochastic maps, unfold + autograd": lambda: peer.ask("stochastic"),
        f"N = {size.num_maps} stochastic maps, ours": ours("stochastic", size.num_maps)}
    times = measure.compare(works, min(options.rounds, 3))
    network_seconds = times["network alone, PyTorch"].median
    our_seconds = times[f"N = {size.num_maps} stochastic maps, ours"].median
    few_seconds = times[f"{FEW} stochastic maps, unfold + autograd"].median - network_seconds
    rows: list[list[Cell]] = [[name, timing.median, None] for name, timing in times.items()]
    peer_seconds = network_seconds + few_seconds * size.num_maps / FEW
    rows += [[f"N = {size.num_maps}, unfold + autograd, from {FEW}", peer_seconds, peer_seconds / our_seconds]]
    their_map, our_map = peer.ask("hirescam"), works["one deterministic map, ours"]()
    our_map = cv2.resize(our_map, their_map.shape[::-1])
    our_map = (our_map - our_map.min()) / (our_map.max() - our_map.min())  # after resizing, as pytorch-grad-cam does
    logits = np.abs(peer.ask("pass") - works["network alone, ours"]()).max()
    return Table(
        "The same network and image in PyTorch", ("what", "s", "times ours"), rows,
        f"VGG-16, {size.side} x {size.side}, s = {size.kernel_size}, one tag, from the normalised image to the map; "
        f"{'weights given' if options.weights else 'random weights'}; torch {peer.facts['torch']} with "
        f"{peer.facts['threads']} threads. The peer's time for N is its network's and N / {FEW} times that of {FEW} "
        "passes. HiResCAM is Eq. 1 without selection (gradient times feature, not pooled): its map and ours differ by "
        f"at most {np.abs(their_map - our_map).max():.1e} of the maximum, logits by at most {logits:.1e}.")
