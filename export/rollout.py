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
command at a time changes a directory. After one that was killed, `promote` says what is meant.
"""

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from export import client as command_line
from export import transport
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import quiet
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
      UserError: there is no models.config of one model.
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
                lines.append(f"{server}: {states}; {_pairs(self._served(client))}")
            except transport.ServerError as error:
                lines.append(f"{server}: {error}")
        return "\n".join(lines)

    def canary(self, version: int) -> str:
        """Loads a version and labels it "canary".

        Raises:
          UserError: it is not there, or is the stable one, or a server does not load it; another command is at work.
          transport.ServerError: a server cannot be reached, or refuses.
        """
        with self._alone():
            if self.labels.get(STABLE) == version:
                raise UserError(f"version {version}: expected another one than the stable one")
            self._move({**self.labels, CANARY: version})
            return f"canary is {version}; stable is {self.labels.get(STABLE)}"

    def promote(self, version: int) -> str:
        """Labels a version "stable", and the one that was "previous"; see `canary` for the errors."""
        with self._alone():
            labels, before = self.labels, self.labels.get(STABLE)
            if before is not None and before != version:
                labels[PREVIOUS] = before
            if labels.get(CANARY) == version:
                del labels[CANARY]
            self._move({**labels, STABLE: version}, needed=[version])
            previous = self.labels.get(PREVIOUS)
            back = f"; to go back to {previous}: rollback" if previous is not None else ""
            return f"stable is {version}{' already' if before == version else ''}{back}"

    def rollback(self) -> str:
        """Gives "stable" back to "previous", and the other way round.

        Raises:
          UserError: nobody knows what was before, because a command was interrupted; see `canary` for the others.
        """
        with self._alone():
            labels = self.labels
            if PREVIOUS not in labels:
                raise UserError(f"{self._path}: expected the label {PREVIOUS}, which a promotion leaves, found "
                                f"{_pairs(labels)}")
            stable = labels.get(STABLE)
            for server, client in self._clients.items():
                if (found := client.version_of(STABLE)) not in (None, stable):
                    raise UserError(f"{server}: expected stable to be {stable}, as models.config says, found {found}: "
                                    "a command was interrupted. Promote the version that you want")
            back = labels.pop(PREVIOUS)
            self._move({**labels, STABLE: back, **({} if stable is None else {PREVIOUS: stable})}, needed=[back])
            kept = f"; {stable} stays loaded, as {PREVIOUS}" if PREVIOUS in self.labels else ""
            return f"stable is {back} again{kept}"

    def withdraw(self) -> str:
        """Takes the canary away, and its version where nothing else needs it; see `canary` for the errors."""
        with self._alone():
            labels = self.labels
            version = labels.pop(CANARY, None)
            if version is None:
                raise UserError(f"{self._path}: expected the label {CANARY}, found {_pairs(labels)}")
            self._move(labels, without=version)
            return f"canary {version} is withdrawn; stable is {labels.get(STABLE)}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with server_files.changing(self._base, wait=False):
            self._read()
            yield

    def _exported(self, version: int) -> bool:
        return (self._base / str(version) / "saved_model.pb").is_file()

    def _move(self, labels: dict[str, int], needed: Sequence[int] = (), without: int | None = None) -> None:
        """Brings models.config and every server to some labels: list, load, label, and take off what nobody needs.

        Labels of versions that are gone, or that a server gave up loading, are dropped; not so "stable" and what is
        `needed`.
        """
        new = [version for label, version in labels.items() if label == CANARY and self.labels.get(label) != version]
        needed = [*needed, *new, *(version for label, version in labels.items() if label == STABLE)]
        for version in needed:
            if not self._exported(version):
                raise UserError(f"{self._base / str(version)}: expected an exported version, found none")
        states = {server: client.states() for server, client in self._clients.items()}
        for label, version in list(labels.items()):
            lost = not self._exported(version) or any(
                each.get(version, "").startswith("END: ") for each in states.values())
            if version not in needed and lost:
                del labels[label]
        served = {server: self._served(client) for server, client in self._clients.items()}
        before = self._config.SerializeToString()
        try:
            self._write(sorted({*filter(self._exported, self.listed), *labels.values()}), {
                label: version for label, version in self.labels.items() if self._exported(version)})
            for server, client in self._clients.items():
                self._tell(server, client, {**self.labels, **served[server]}, served[server])
            for server, client in self._clients.items():
                for version in sorted(set(labels.values())):
                    self._until_loaded(server, client, version, states[server].get(version))
            self._apply(self.listed, labels)
            for server, client in self._clients.items():
                self._until_labelled(server, client, labels)
            others = [each for each in reversed(self.listed) if each not in {*labels.values(), without}]
            self._apply(sorted({*labels.values(), *others[:max(0, self._keep - len(set(labels.values())))]}), labels)
        except BaseException:
            self._config.ParseFromString(before)
            server_files.write(self._path, self._config)
            for server, client in self._clients.items():
                with contextlib.suppress(transport.ServerError):  # the first error is the one to be told
                    self._tell(server, client, {**self.labels, **served[server]}, served[server])
            raise

    def _apply(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        """Writes models.config, then tells every server."""
        self._write(versions, labels)
        for server, client in self._clients.items():
            self._tell(server, client, labels)

    def _until_loaded(self, server: str, client: transport.Client, version: int, earlier: str | None) -> None:
        start, state = time.monotonic(), earlier
        while time.monotonic() - start < self._wait:
            state = client.states().get(version)
            if state == "AVAILABLE":
                return
            begun = state != earlier or (not client.is_rest and time.monotonic() - start > _GRACE)
            if begun and state is not None and state.startswith("END: "):
                break  # it gave up
            time.sleep(_PAUSE)
        raise UserError(f"{server}: expected version {version} to be loaded within {self._wait:g} s, found "
                        f"{state or 'it not listed'}; no label was moved")

    def _until_labelled(self, server: str, client: transport.Client, labels: dict[str, int]) -> None:
        end = time.monotonic() + self._wait
        while (found := self._served(client)) != labels:
            if time.monotonic() > end:
                raise UserError(f"{server}: expected {_pairs(labels)} within {self._wait:g} s, found {_pairs(found)}; "
                                "the server's log says why. Labels are as before")
            time.sleep(_PAUSE)

    def _served(self, client: transport.Client) -> dict[str, int]:
        """Returns {label: version} of a server, as far as they are loaded."""
        return {label: version for label in sorted({*_LABELS, *self.labels})
                if (version := client.version_of(label)) is not None}

    def _tell(self, server: str, client: transport.Client, labels: dict[str, int],
              otherwise: dict[str, int] | None = None) -> None:
        """Gives a server the list of models.config and some labels; others, where it refuses those."""
        if client.is_rest:
            return
        config = type(self._config)()
        config.CopyFrom(self._config)
        config.model_config_list.config[0].version_labels.clear()
        config.model_config_list.config[0].version_labels.update(labels)
        try:
            client.reload(config.SerializeToString())
        except transport.ServerError as error:
            if otherwise is None:
                raise transport.ServerError(f"{server}: {error}") from error
            self._tell(server, client, otherwise)

    def _write(self, versions: Sequence[int], labels: dict[str, int]) -> None:
        """Writes models.config."""
        listed = self._model.model_version_policy.specific.versions
        del listed[:]
        listed.extend(versions)
        self._model.version_labels.clear()
        self._model.version_labels.update(labels)
        server_files.write(self._path, self._config)


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
    made.add_argument("--model_base", required=True, help="the versions' directory, as OUTPUT_DIR/saved_model")
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
    quiet.load_tensorflow()  # the messages' classes stand on it
    try:
        rollout = Rollout(given.model_base, servers, given.wait, given.keep)
        call = getattr(rollout, given.command)
        print(call() if given.version is None else call(given.version))
    except (UserError, OSError, transport.ServerError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
