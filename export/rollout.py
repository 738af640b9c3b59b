"""Moves the labels of versions at running servers, in the order that TensorFlow Serving allows.

    python -m export.rollout --server=localhost:8500 --model_base=runs/demo/saved_model status
    python -m export.rollout --server=localhost:8500 --model_base=runs/demo/saved_model canary 3

    status       what the servers have loaded, and where the labels are
    canary N     loads version N and gives it the label "canary"; "stable" stays where it is
    promote N    gives version N the label "stable"; the one before keeps loaded, as "previous"
    rollback     gives "stable" back to "previous", and the other way round
    withdraw     takes the canary away

A label moves only to a version that every server has loaded. MODEL_BASE/models.config is written before the servers
are told, so that one that starts again finds what was meant; where a server refuses, it is as it was before.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from export import transport
from ficklenet_tf.errors import UserError
from ficklenet_tf.serving import server_files
from ficklenet_tf.serving.server_files import CANARY, PREVIOUS, STABLE

_PAUSE = 0.2  # seconds between two looks at a server


class Rollout:
    """The versions in a directory, and the servers that serve them.

    Args:
      model_base: the versions' directory, with models.config.
      servers: "host:port" (gRPC) or "http://host:port" each; one asked over REST has to poll models.config.
      wait: seconds for a version to be loaded, and for a label to arrive.
      keep: how many versions stay listed, those with labels among them.
    """

    def __init__(self, model_base: str | pathlib.Path, servers: Sequence[str], wait: float = 300.0,
                 keep: int = 2) -> None:
        self._base, self._wait, self._keep = pathlib.Path(model_base), wait, keep
        self._path = self._base / server_files.MODELS
        self._config = server_files.read(self._path)
        if len(self._config.model_config_list.config) != 1:
            raise UserError(f"{self._path}: expected one model, as an export writes it, found "
                            f"{len(self._config.model_config_list.config)}; export a version first")
        self._clients = [transport.Client(server, self._model.name, None, 30.0) for server in servers]
        self._servers = list(servers)

    @property
    def _model(self) -> Any:  # a ModelConfig
        return self._config.model_config_list.config[0]

    @property
    def labels(self) -> dict[str, int]:
        """{label: version} of models.config."""
        return dict(self._model.version_labels)

    @property
    def listed(self) -> list[int]:
        """The versions of models.config."""
        return list(self._model.model_version_policy.specific.versions)

    def status(self) -> str:
        """Returns what models.config says and what each server has, as text."""
        lines = [f"{self._path}: versions {_words(self.listed)}; {_pairs(self.labels)}"]
        for server, client in zip(self._servers, self._clients, strict=True):
            states = ", ".join(f"{version} {state}" for version, state in sorted(client.states().items()))
            at = {label: version for label in (STABLE, CANARY, PREVIOUS)
                  if (version := client.version_of(label)) is not None}
            lines.append(f"{server}: {states}; {_pairs(at)}")
        return "\n".join(lines)

    def canary(self, version: int) -> str:
        """Loads a version and labels it "canary".

        Raises:
          UserError: it is not there, or is the stable one, or a server does not load it.
          transport.ServerError: a server cannot be reached.
        """
        if self.labels.get(STABLE) == version:
            raise UserError(f"version {version}: expected another one than the stable one")
        self._load(version)
        self._label({**self.labels, CANARY: version})
        return f"canary is {version}; stable is {self.labels.get(STABLE)}"

    def promote(self, version: int) -> str:
        """Labels a version "stable", and the one that was "previous"; see `canary` for the errors."""
        before = self.labels
        if before.get(STABLE) == version:
            return f"stable is {version} already"
        self._load(version)
        after = {STABLE: version, **({PREVIOUS: before[STABLE]} if STABLE in before else {}),
                 **({CANARY: before[CANARY]} if before.get(CANARY, version) != version else {})}
        self._label(after)
        self._prune()
        return f"stable is {version}; to go back to {before.get(STABLE)}: rollback"

    def rollback(self) -> str:
        """Gives "stable" back to "previous", and the other way round; see `canary` for the errors."""
        labels = self.labels
        if PREVIOUS not in labels:
            raise UserError(f"{self._path}: expected the label {PREVIOUS}, which a promotion leaves, found "
                            f"{_pairs(labels)}")
        self._load(labels[PREVIOUS])
        self._label({**labels, STABLE: labels[PREVIOUS], PREVIOUS: labels[STABLE]})
        return f"stable is {self.labels[STABLE]} again; {labels[STABLE]} stays loaded, as {PREVIOUS}"

    def withdraw(self) -> str:
        """Takes the canary away: its label, and the version where nothing else needs it."""
        labels = self.labels
        version = labels.pop(CANARY, None)
        if version is None:
            raise UserError(f"{self._path}: expected the label {CANARY}, found {_pairs(labels)}")
        self._label(labels)
        if version not in labels.values():
            self._apply([each for each in self.listed if each != version], labels)
        return f"canary {version} is withdrawn; stable is {labels.get(STABLE)}"

    def _load(self, version: int) -> None:
        """Lists a version and waits until every server has loaded it; else it is taken off the list again."""
        if not (self._base / str(version) / "saved_model.pb").is_file():
            raise UserError(f"{self._base / str(version)}: expected an exported version, found none")
        before = self.listed
        if version not in before:
            self._apply(sorted([*before, version]), self.labels)
        try:
            for server, client in zip(self._servers, self._clients, strict=True):
                self._until_loaded(server, client, version)
        except (UserError, transport.ServerError):
            if version not in before:
                self._apply(before, self.labels)
            raise

    def _until_loaded(self, server: str, client: transport.Client, version: int) -> None:
        state, end = "not listed", time.monotonic() + self._wait
        while time.monotonic() < end:
            state = client.states().get(version, "not listed")
            if state == "AVAILABLE":
                return
            if state.startswith("END: "):
                break  # it gave up
            time.sleep(_PAUSE)
        raise UserError(f"{server}: expected version {version} to be loaded within {self._wait:g} s, found {state}; "
                        "no label was moved")

    def _label(self, labels: dict[str, int]) -> None:
        """Moves labels, and waits until every server answers by them."""
        before = self.labels
        self._apply(self.listed, labels)
        for server, client in zip(self._servers, self._clients, strict=True):
            end = time.monotonic() + self._wait
            while (found := {label: client.version_of(label) for label in labels}) != labels:
                if time.monotonic() > end:
                    self._apply(self.listed, before)
                    raise UserError(f"{server}: expected {_pairs(labels)} within {self._wait:g} s, found "
                                    f"{_pairs(found)}; the server's log says why. models.config is as before")
                time.sleep(_PAUSE)

    def _prune(self) -> None:
        """Takes old versions off the list: those with labels stay, and of the others the newest, up to `keep`."""
        labelled = set(self.labels.values())
        others = [version for version in sorted(self.listed, reverse=True) if version not in labelled]
        kept = sorted([*labelled, *others[:max(0, self._keep - len(labelled))]])
        if kept != self.listed:
            self._apply(kept, self.labels)

    def _apply(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        """Writes models.config and tells the servers; puts it back where one refuses."""
        before = self._config.SerializeToString()
        self._set(versions, labels)
        try:
            for client in self._clients:
                if not client.is_rest:
                    client.reload(self._config.SerializeToString())
        except transport.ServerError:
            self._config.ParseFromString(before)
            server_files.write(self._path, self._config)
            raise

    def _set(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        listed = self._model.model_version_policy.specific.versions
        del listed[:]
        listed.extend(versions)
        self._model.version_labels.clear()
        self._model.version_labels.update(labels)
        server_files.write(self._path, self._config)


def _words(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _pairs(labels: dict[str, int] | dict[str, int | None]) -> str:
    return ", ".join(f"{label} is {version}" for label, version in labels.items()) or "no label"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m export.rollout", description=__doc__, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("command", choices=("status", "canary", "promote", "rollback", "withdraw"))
    made.add_argument("version", nargs="?", type=int, help="of canary and promote")
    made.add_argument("--server", required=True,
                      help="host:port (gRPC) or http://host:port; several, by commas, where they serve one directory")
    made.add_argument("--model_base", required=True, help="the versions' directory, as RUN_DIR/saved_model")
    made.add_argument("--wait", type=float, default=300.0,
                      help="seconds for a version to be loaded and for a label to arrive (%(default)s)")
    made.add_argument("--keep", type=int, default=2,
                      help="versions that stay listed, those with labels too (%(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Does one command; exit code 1 and one line where it cannot."""
    made = parser()
    given = made.parse_args(arguments)
    if (given.command in ("canary", "promote")) != (given.version is not None):
        made.error(f"{given.command}: expected {'a' if given.version is None else 'no'} version")
    try:
        rollout = Rollout(given.model_base, given.server.split(","), given.wait, given.keep)
        call = getattr(rollout, given.command)
        print(call() if given.version is None else call(given.version))
    except (UserError, OSError, transport.ServerError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
