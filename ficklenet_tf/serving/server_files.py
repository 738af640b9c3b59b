"""What stands beside the versions: models.config with the versions that a server loads, their labels, and batching.

A server reads models.config when it starts and, where it polls, again and again. `export.rollout` moves labels; an
export only adds its version.
"""

import contextlib
import pathlib
from typing import TYPE_CHECKING

from google.protobuf import text_format

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, lock

if TYPE_CHECKING:  # it loads TensorFlow
    from tensorflow_serving.config import model_server_config_pb2

MODELS, BATCHING = "models.config", "batching_parameters.txt"
# Who serves, who is tried, and who served before; `export.rollout` alone moves them.
STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"
NAME, BASE_PATH = "ficklenet", "/models/ficklenet"
_HEAD = """\
# tensorflow_model_server --model_config_file=<this file> --allow_version_labels_for_unavailable_models
# base_path is the directory of the versions as the server sees it; in the docker image, /models/<name>.
# Labels are moved by python -m export.rollout: a running server takes only labels of versions that it has loaded.
"""
_BATCHING = """\
# tensorflow_model_server --enable_batching --batching_parameters_file=<this file>
# For a version that was exported with --batching: it has serve_jpeg alone, which takes files of any sizes together.
max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 2 }}
"""


def changing(directory: str | pathlib.Path, wait: bool) -> contextlib.AbstractContextManager[None]:
    """Holds models.config: one process at a time reads and writes it; see `lock.hold`."""
    return lock.hold(pathlib.Path(directory) / ".models.lock", f"{directory}/{MODELS}", wait=wait)


def add_version(directory: str | pathlib.Path, version: int, *, base_path: str | None = None,
                batch: int | None = None) -> None:
    """Lists a version in models.config; the first one gets the label "stable". What is there stays.

    Args:
      directory: the versions' parent.
      version: to list.
      base_path: `directory` as the server sees it, an absolute path; None: what models.config says, else `BASE_PATH`.
      batch: where the server may put requests together, the greatest batch: batching_parameters.txt is written.

    Raises:
      UserError: models.config is there and is no ModelServerConfig.
    """
    directory = pathlib.Path(directory)
    with changing(directory, wait=True):
        config = read(directory / MODELS)
        models = config.model_config_list.config
        model = models[0] if models else models.add(name=NAME, base_path=BASE_PATH, model_platform="tensorflow")
        if base_path is not None:
            model.base_path = base_path
        listed = model.model_version_policy.specific.versions
        present = sorted({*(each for each in listed if (directory / str(each)).is_dir()), version})
        for label in [label for label, labelled in model.version_labels.items() if labelled not in present]:
            del model.version_labels[label]
        del listed[:]
        listed.extend(present)
        if STABLE not in model.version_labels:
            model.version_labels[STABLE] = version
        write(directory / MODELS, config)
        if batch is not None:
            artifacts.write_bytes(directory / BATCHING, _BATCHING.format(size=batch).encode())


def write(path: pathlib.Path, config: "model_server_config_pb2.ModelServerConfig") -> None:
    """Writes a ModelServerConfig as text, whole or not at all."""
    artifacts.write_bytes(path, (_HEAD + text_format.MessageToString(config)).encode())


def read(path: pathlib.Path) -> "model_server_config_pb2.ModelServerConfig":
    """Returns the ModelServerConfig in a file, an empty one where there is no file.

    Raises:
      UserError: the file holds something else.
    """
    from tensorflow_serving.config import model_server_config_pb2

    if not path.exists():
        return model_server_config_pb2.ModelServerConfig()
    try:
        return text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a ModelServerConfig as text, found {error}") from error
