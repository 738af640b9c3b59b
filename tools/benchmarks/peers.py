"""The same weights and image in PyTorch: pytorch-grad-cam's maps, and N stochastic passes as its users would write."""

import json
import pathlib
import subprocess
import tempfile

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import backbones, pretrained
from tools.benchmarks import inputs, measure
from tools.benchmarks.localization import head_of
from tools.benchmarks.tables import Table

FEW = 2  # stochastic passes that the peer is timed for; its time grows by the pass
TAG = 0


class Peer:
    """The process of `peers_torch.py`; `facts` is what it says of itself.

    Args:
      python: of the environment with requirements-peers.txt.
      path: the .npz with network and image.

    Raises:
      ValueError: it does not start.
    """

    def __init__(self, python, path):
        script = pathlib.Path(__file__).with_name("peers_torch.py")
        try:
            self._process = subprocess.Popen([python, str(script), str(path)], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise UserError(f"peers_python: expected the Python of an environment with requirements-peers.txt, "
                            f"found {error}") from error
        self._directory, self.facts = path.parent, self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"peers: the process ended with {self._process.wait()}; its environment needs what "
                            "requirements-peers.txt pins")
        return json.loads(line)

    def ask(self, what):
        """Does a work of `peers_torch.py`; returns its result."""
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        self._answer()
        return np.load(self._directory / f"{what}.npy")

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def run(options):
    """Returns the section's tables.

    Raises:
      ValueError: --peers_python is not given, or that environment lacks something.
    """
    if options.peers_python is None:
        raise UserError("peers: expected --peers_python, the Python of an environment with requirements-peers.txt")
    size = options.size
    network = backbones.build("vgg16", "none")
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


def _arrays(network, head):
    found = {"head/W": head.kernel.numpy(), "head/b": head.bias.numpy()}
    for layer in network.layers:
        if layer.weights:
            name = layer.name.replace("block", "conv").replace("_conv", "_")
            found[f"{name}/W"], found[f"{name}/b"] = layer.get_weights()
    return found


def compared(options, peer, network, head, image):
    """Times both sides in turn and compares one deterministic map."""
    size = options.size

    def ours(mode, count):
        @tf.function
        def maps(x):
            found = aggregation.localize(head, network(x)[0], tf.constant([TAG]), tf.constant([1, 2]),
                                         num_maps=count, mode=mode)
            return found["mean"][..., 0]
        return lambda: maps(image).numpy()

    forward = tf.function(lambda x: head.logits(network(x)))
    works = {"network alone, PyTorch": lambda: peer.ask("pass"),
             "network alone, ours": lambda: forward(image).numpy(),
             "one GradCAM, pytorch-grad-cam": lambda: peer.ask("gradcam"),
             "one HiResCAM, pytorch-grad-cam": lambda: peer.ask("hirescam"),
             "one deterministic map, ours": ours("deterministic", 1),
             f"{FEW} stochastic maps, unfold + autograd": lambda: peer.ask("stochastic"),
             f"N = {size.num_maps} stochastic maps, ours": ours("stochastic", size.num_maps)}
    times = measure.compare(works, min(options.rounds, 3))
    bare = times["network alone, PyTorch"].median
    last = times[f"N = {size.num_maps} stochastic maps, ours"]
    peers = times[f"{FEW} stochastic maps, unfold + autograd"].median - bare
    rows = [[name, found.median, None] for name, found in times.items()]
    whole = bare + peers * size.num_maps / FEW
    rows += [[f"N = {size.num_maps}, unfold + autograd, from {FEW}", whole, whole / last.median]]
    theirs, one = peer.ask("hirescam"), works["one deterministic map, ours"]()
    one = cv2.resize(one, theirs.shape[::-1])
    one = (one - one.min()) / (one.max() - one.min())  # after resizing, as pytorch-grad-cam does
    logits = np.abs(peer.ask("pass") - works["network alone, ours"]()).max()
    return Table(
        "The same network and image in PyTorch", ("what", "s", "times ours"), rows,
        f"VGG-16, {size.side} x {size.side}, s = {size.kernel_size}, one tag, from the normalised image to the map; "
        f"{'weights given' if options.weights else 'random weights'}; torch {peer.facts['torch']} with "
        f"{peer.facts['threads']} threads. The peer's time for N is its network's and N / {FEW} times that of {FEW} "
        "passes. HiResCAM is Eq. 1 without selection (gradient times feature, not pooled): its map and ours differ by "
        f"at most {np.abs(theirs - one).max():.1e} of the maximum, logits by at most {logits:.1e}.")
