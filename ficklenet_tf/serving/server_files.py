"""What stands beside the versions: models.config with version labels, and batching_parameters.txt."""

import pathlib

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

MODELS, BATCHING = "models.config", "batching_parameters.txt"
LABELS = ("stable", "canary")
_HEAD = """\
# tensorflow_model_server --model_config_file=<this file>
# base_path is the directory of the versions as the server sees it; in the docker image, /models/<name>.
"""
_BATCHING = """\
# tensorflow_model_server --enable_batching --batching_parameters_file=<this file>
max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 2 }}
# Photographs of different sizes are not padded to each other: it would change their answers.
# Requests of one size share a batch, and serve_jpeg takes any sizes together.
pad_variable_length_inputs: false
"""


def write(directory: str | pathlib.Path, version: int, *, label: str | None = None, name: str = "ficklenet",
          base_path: str = "/models/ficklenet", batch: int = 8) -> None:
    """Writes models.config and batching_parameters.txt, keeping the labels that other versions have.

    Args:
      directory: the versions' parent.
      version: the version that carries the label.
      label: "stable" or "canary"; None: stable for the first version, canary for later ones.
      name: of the model in the server.
      base_path: `directory` as the server sees it.
      batch: greatest batch that the server puts together.

    Raises:
      UserError: models.config is there and is no ModelServerConfig, or the label is unknown.
    """
    if label is not None and label not in LABELS:
        raise UserError(f"label: expected one of {', '.join(LABELS)}, found {label!r}")
    directory = pathlib.Path(directory)
    models = read(directory / MODELS).model_config_list.config
    before = dict(models[0].version_labels) if models else {}
    versions = {key: value for key, value in before.items() if (directory / str(value)).is_dir()}  # by label
    label = label or ("canary" if versions.get("stable", version) != version else "stable")
    versions[label] = version
    if label == "stable" and versions.get("canary") == version:
        del versions["canary"]  # it has arrived
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    model.model_version_policy.specific.versions.extend(sorted(set(versions.values())))
    for key, value in sorted(versions.items()):
        model.version_labels[key] = value
    artifacts.write_bytes(directory / MODELS, (_HEAD + text_format.MessageToString(config)).encode())
    artifacts.write_bytes(directory / BATCHING, _BATCHING.format(size=batch).encode())


def read(path: pathlib.Path) -> model_server_config_pb2.ModelServerConfig:
    """Returns the ModelServerConfig in a file, an empty one where there is no file."""
    if not path.exists():
        return model_server_config_pb2.ModelServerConfig()
    try:
        return text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a ModelServerConfig as text, found {error}") from error
