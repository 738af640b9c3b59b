"""Moves the labels of versions at running servers, in the order that TensorFlow Serving allows.

    python -m export.rollout --server=localhost:8500 --model_base=runs/demo/saved_model status
    python -m export.rollout --server=localhost:8500 --model_base=runs/demo/saved_model canary 3

    status       what models.config says, what the servers have loaded, and where their labels are
    canary N     loads version N and gives it the label "canary"; "stable" stays where it is
    promote N    gives version N the label "stable"; the one before keeps loaded, as "previous"
    rollback     gives "stable" back to "previous", and the other way round
    withdraw     takes the canary away

A label moves only to a version that every server has loaded. MODEL_BASE/models.config is written before the servers
are told, so that one that starts again finds what was meant; where a server refuses, file and servers go back. One
command at a time changes a directory. One that was killed half-way is finished by the next.
"""

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tools  # noqa: F401 - TensorFlow without its chatter, before anything else loads it

# isort: split
from export import client as command_line
from export import transport
from ficklenet_tf.errors import UserError
from ficklenet_tf.serving import server_files
from ficklenet_tf.serving.server_files import CANARY, PREVIOUS, STABLE

_LABELS = (STABLE, CANARY, PREVIOUS)
_PAUSE = 0.2  # seconds between two looks at a server
_GRACE = 5.0  # seconds in which a server begins to load what it has just been told; what it says before is of earlier


class Rollout:
    """The versions in a directory, and the servers that serve them.

    Args:
      model_base: the versions' directory, with models.config.
      servers: "host:port" (gRPC) or "http://host:port" each; one asked over REST has to poll models.config.
      wait: seconds for a version to be loaded, and for a label to arrive.
      keep: how many versions stay listed, those with labels among them.

    Raises:
      UserError: there is no models.config of one model, or another command is at work there.
    """

    def __init__(self, model_base: str | pathlib.Path, servers: Sequence[str], wait: float = 300.0,
                 keep: int = 2) -> None:
        self._base, self._wait, self._keep = pathlib.Path(model_base), wait, keep
        self._path = self._base / server_files.MODELS
        self._read()
        self._clients = {server: transport.Client(server, self._model.name, None, 30.0) for server in servers}

    def _read(self) -> None:
        self._config = server_files.read(self._path)
        if len(self._config.model_config_list.config) != 1:
            raise UserError(f"{self._path}: expected one model, as an export writes it, found "
                            f"{len(self._config.model_config_list.config)}; export a version first")

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
        lines = [f"{self._path}: versions {', '.join(map(str, self.listed)) or 'none'}; {_pairs(self.labels)}"]
        for server, client in self._clients.items():
            try:
                states = ", ".join(f"{version} {state}" for version, state in sorted(client.states().items()))
                lines.append(f"{server}: {states}; {_pairs(_served(client))}")
            except transport.ServerError as error:
                lines.append(f"{server}: {error}")
        return "\n".join(lines)

    def canary(self, version: int) -> str:
        """Loads a version and labels it "canary".

        Raises:
          UserError: it is not there, or is the stable one, or a server does not load it.
          transport.ServerError: a server cannot be reached, or refuses.
        """
        with self._changing():
            if self.labels.get(STABLE) == version:
                raise UserError(f"version {version}: expected another one than the stable one")
            self._load(version)
            self._label({**self.labels, CANARY: version})
            self._prune()
            return f"canary is {version}; stable is {self.labels.get(STABLE)}"

    def promote(self, version: int) -> str:
        """Labels a version "stable", and the one that was "previous"; see `canary` for the errors."""
        with self._changing():
            labels = self.labels
            before = labels.get(STABLE)
            self._load(version)
            if before not in (None, version):
                labels[PREVIOUS] = before
            if labels.get(CANARY) == version:
                del labels[CANARY]
            self._label({**labels, STABLE: version})
            self._prune()
            back = f"; to go back to {labels[PREVIOUS]}: rollback" if PREVIOUS in labels else ""
            return f"stable is {version}{' already' if before == version else ''}{back}"

    def rollback(self) -> str:
        """Gives "stable" back to "previous", and the other way round; see `canary` for the errors."""
        with self._changing() as finished:
            labels = self.labels
            if finished:
                return f"a command that was interrupted is finished: {_pairs(labels)}; look before you go further"
            if PREVIOUS not in labels:
                raise UserError(f"{self._path}: expected the label {PREVIOUS}, which a promotion leaves, found "
                                f"{_pairs(labels)}")
            self._load(labels[PREVIOUS])
            self._label({**labels, STABLE: labels[PREVIOUS], PREVIOUS: labels[STABLE]})
            return f"stable is {self.labels[STABLE]} again; {labels[STABLE]} stays loaded, as {PREVIOUS}"

    def withdraw(self) -> str:
        """Takes the canary away: its label, and the version where nothing else needs it."""
        with self._changing():
            labels = self.labels
            version = labels.pop(CANARY, None)
            if version is None:
                raise UserError(f"{self._path}: expected the label {CANARY}, found {_pairs(labels)}")
            self._label(labels)
            if version not in labels.values():
                self._apply([each for each in self.listed if each != version], labels)
            self._prune()
            return f"canary {version} is withdrawn; stable is {labels.get(STABLE)}"

    @contextlib.contextmanager
    def _changing(self) -> Iterator[bool]:
        """Holds the directory, brings the servers to what models.config says, and yields whether they were behind."""
        with server_files.changing(self._base, wait=False):
            self._read()
            gone = [version for version in self.listed if not self._exported(version)]
            if gone:
                labels = {label: version for label, version in self.labels.items() if version not in gone}
                self._set([version for version in self.listed if version not in gone], labels)
            behind = any(_served(client) != self.labels for client in self._clients.values())
            if behind:
                for version in sorted(set(self.labels.values())):
                    self._load(version)
                self._label(self.labels)
            yield behind

    def _exported(self, version: int) -> bool:
        return (self._base / str(version) / "saved_model.pb").is_file()

    def _load(self, version: int) -> None:
        """Lists a version and waits until every server has loaded it; else it is taken off the list again."""
        if not self._exported(version):
            raise UserError(f"{self._base / str(version)}: expected an exported version, found none")
        before = self.listed
        with self._undoing():
            earlier = {server: client.states().get(version) for server, client in self._clients.items()}
            if version not in before or any(state != "AVAILABLE" for state in earlier.values()):
                self._apply(sorted({*before, version}), self.labels)
            for server, client in self._clients.items():
                self._until_loaded(server, client, version, earlier[server])

    def _until_loaded(self, server: str, client: transport.Client, version: int, earlier: str | None) -> None:
        start, state = time.monotonic(), earlier
        while time.monotonic() - start < self._wait:
            state = client.states().get(version)
            if state == "AVAILABLE":
                return
            begun = state != earlier or time.monotonic() - start > _GRACE
            if begun and state is not None and state.startswith("END: "):
                break  # it gave up
            time.sleep(_PAUSE)
        raise UserError(f"{server}: expected version {version} to be loaded within {self._wait:g} s, found "
                        f"{state or 'it not listed'}; no label was moved")

    def _label(self, labels: dict[str, int]) -> None:
        """Moves labels, and waits until every server answers by them."""
        with self._undoing():
            self._apply(self.listed, labels)
            for server, client in self._clients.items():
                end = time.monotonic() + self._wait
                while (found := _served(client)) != labels:
                    if time.monotonic() > end:
                        raise UserError(f"{server}: expected {_pairs(labels)} within {self._wait:g} s, found "
                                        f"{_pairs(found)}; the server's log says why. Labels are as before")
                    time.sleep(_PAUSE)

    def _prune(self) -> None:
        """Takes old versions off the list: those with labels stay, and of the others the newest, up to `keep`."""
        labelled = set(self.labels.values())
        others = [version for version in sorted(self.listed, reverse=True) if version not in labelled]
        kept = sorted([*labelled, *others[:max(0, self._keep - len(labelled))]])
        if kept != self.listed:
            self._apply(kept, self.labels)

    @contextlib.contextmanager
    def _undoing(self) -> Iterator[None]:
        """Where the block fails, models.config and the servers that can be reached go back to what was before."""
        before = self._config.SerializeToString()
        try:
            yield
        except BaseException:
            if self._config.SerializeToString() != before:
                self._config.ParseFromString(before)
                server_files.write(self._path, self._config)
                for client in self._clients.values():
                    with contextlib.suppress(transport.ServerError):  # the first error is the one to be told
                        self._tell(client)
            raise

    def _apply(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        """Writes models.config and tells the servers; both go back where one refuses."""
        with self._undoing():
            self._set(versions, labels)
            for server, client in self._clients.items():
                try:
                    self._tell(client)
                except transport.ServerError as error:
                    raise transport.ServerError(f"{server}: {error}") from error

    def _tell(self, client: transport.Client) -> None:
        if not client.is_rest:
            client.reload(self._config.SerializeToString())

    def _set(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        listed = self._model.model_version_policy.specific.versions
        del listed[:]
        listed.extend(versions)
        self._model.version_labels.clear()
        self._model.version_labels.update(labels)
        server_files.write(self._path, self._config)


def _served(client: transport.Client) -> dict[str, int]:
    """Returns {label: version} of a server, as far as they are loaded."""
    return {label: version for label in _LABELS if (version := client.version_of(label)) is not None}


def _pairs(labels: dict[str, int]) -> str:
    return ", ".join(f"{label} is {version}" for label, version in sorted(labels.items())) or "no label"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m export.rollout", description=__doc__, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("command", choices=("status", "canary", "promote", "rollback", "withdraw"))
    made.add_argument("version", nargs="?", type=command_line.between(1, 2**63 - 1), help="of canary and promote")
    made.add_argument("--server", required=True,
                      help="host:port (gRPC) or http://host:port; several, by commas, where they serve one directory")
    made.add_argument("--model_base", required=True, help="the versions' directory, as RUN_DIR/saved_model")
    made.add_argument("--wait", type=command_line.between(1, 1e6, float), default=300.0,
                      help="seconds for a version to be loaded and for a label to arrive (%(default)s)")
    made.add_argument("--keep", type=command_line.between(1, 1000), default=2,
                      help="versions that stay listed, those with labels too (%(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Does one command; exit code 1 and one line where it cannot."""
    made = parser()
    given = made.parse_args(arguments)
    if (given.command in ("canary", "promote")) != (given.version is not None):
        made.error(f"{given.command}: expected {'a' if given.version is None else 'no'} version")
    servers = [server.strip() for server in given.server.split(",")]
    if not all(servers):
        made.error(f"--server: expected host:port, found {given.server!r}")
    try:
        rollout = Rollout(given.model_base, servers, given.wait, given.keep)
        call = getattr(rollout, given.command)
        print(call() if given.version is None else call(given.version))
    except (UserError, OSError, transport.ServerError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
