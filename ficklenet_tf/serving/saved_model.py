"""Exports a trained run as one SavedModel that TensorFlow Serving runs as it stands.

One `keras.export.ExportArchive`, written under a temporary name and renamed: a server
that watches `<run>/saved_model` never sees half a version.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.runs import artifacts, layout, lock, progress
from ficklenet_tf.serving import (
    decoding,
    graph_scan,
    loading,
    localization_maps,
    model_card,
    servable,
    server_files,
    signatures,
    warmup,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is exported, and how it is applied.

    Attributes:
      stage_name: directory of the segmenter below the run's; None: the last that was trained.
      crf: a key of `crf.SPECS` for the signature serve_crf; "none" leaves it out.
      localization_maps: whether that signature is exported; the classifier is then part of the model.
      batching: whether a server may put requests together: then serve_jpeg is the only signature, because a server
        refuses pixels of different sizes that meet in one batch.
      base_path: see `server_files.add_version`.
      applied: `loading.Options`.
    """

    stage_name: str | None = None
    crf: str = "dsrg"
    localization_maps: bool = True
    batching: bool = False
    base_path: str | None = None
    applied: loading.Options = loading.Options()


def export(run_dir: str | pathlib.Path, version: int | None, options: Options = Options(), *,
           photographs: Sequence[np.ndarray] = ()) -> pathlib.Path:
    """Writes `<run_dir>/saved_model/<version>/`; a version that is there with the same settings is kept.

    Args:
      run_dir: the run's directory, its segmenter finished.
      version: integer, at least 1: TensorFlow Serving's version number; None: the greatest that is there with
        these settings, else the next.
      options: `Options`.
      photographs: `[h, w, 3]` uint8 images on which the agreement with float32 is measured for the card.

    Returns:
      The version's directory.

    Raises:
      FileNotFoundError: a stage has not finished.
      UserError: a bad argument, a graph that a server would not run, or the version is there with other settings.
    """
    run_dir, applied = pathlib.Path(run_dir), options.applied
    if version is not None and int(version) < 1:
        raise UserError(f"version: expected an integer from 1, found {version}")
    if options.base_path is not None and not options.base_path.startswith(("/", "gs://", "s3://")):
        raise UserError(f"base_path: expected an absolute path, as TensorFlow Serving does, found {options.base_path}")
    if options.crf not in crf.SPECS:
        raise UserError(f"crf: expected one of {', '.join(crf.SPECS)}, found {options.crf!r}")
    directory = prediction.last_stage(run_dir, options.stage_name)
    model, run, precision = loading.load_segmenter(directory, applied)
    with_maps = options.localization_maps and not options.batching
    localizer, classifier_run = loading.load_localizer(run_dir, applied) if with_maps else (None, None)
    settings = artifacts.as_json({
        "stage": directory.name, "segmenter": run["finished"],
        "classifier": classifier_run and classifier_run["finished"], "crf": options.crf, "precision": precision,
        "sizes": model.sizes, "flip": model.flip, "max_side": applied.max_side, "size_buckets": model.buckets,
        "max_pixels": applied.max_pixels, "max_batch": applied.max_batch,
        **({"batching": True} if options.batching else {}), **_maps_settings(localizer)})
    version = _next_version(run_dir, settings) if version is None else int(version)
    target = run_dir / layout.SAVED_MODEL / str(version)
    is_there = _is_there(target, settings)
    agreement = _agreement(directory, model, precision, applied, photographs)
    if is_there and agreement:
        model_card.add(target, {"agreement_with_float32": agreement})
    if not is_there:
        def build(temporary: str) -> None:
            networks = [model.network] if localizer is None else [model.network, localizer.model]
            endpoints = _endpoints(model, localizer, crf.SPECS[options.crf], run["class_names"])
            if options.batching:
                endpoints = {"serve_jpeg": endpoints["serve_jpeg"]}
            _write_graph(temporary, networks, endpoints)
            refuse(temporary)
            described = graph_scan.signatures(graph_scan.read(temporary))
            card = model_card.make(run_dir, run, classifier_run, settings, described)
            model_card.write(temporary, {**card, "agreement_with_float32": agreement, "localization_maps":
                                         localizer and dataclasses.asdict(localizer.drawing)})
            # For each size that the graph knows; none that a signature would refuse: no server would start.
            warmup.write(temporary, warmup.examples(described, model.buckets or model.sizes[:1],
                                                    model.max_pixels // signatures.CRF_SHARE))

        write_whole(target, build)
    _warn_of_batching(target)
    for difference in localizer.drawing.other_than_seeds if localizer else ():
        progress.say(f"{target}: localization_maps are not the maps that the seeds were made of: {difference}")
    server_files.add_version(target.parent, version, base_path=options.base_path,
                             batch=applied.max_batch if options.batching else None)
    return target


def _maps_settings(localizer: localization_maps.Localizer | None) -> dict[str, Any]:
    """Returns {"maps": how they are drawn}; of FickleNet's own nothing, as before 2026-11-28 all were drawn so."""
    if localizer is None or (localizer.drawing.mode, localizer.drawing.cam) == ("stochastic", "gradcam"):
        return {}
    return {"maps": {name: getattr(localizer.drawing, name) for name in ("size", "mode", "cam")}}


def _warn_of_batching(target: pathlib.Path) -> None:
    """Says where versions beside one differ in what a server that batches must find: it batches all of them."""
    kinds = {}
    for path in target.parent.glob(f"[0-9]*/{model_card.DIRECTORY}"):
        settings = (artifacts.read_run(path) or {}).get("settings", {})
        kinds[path.parent.name] = settings.get("max_batch") if settings.get("batching") else None
    if len(set(kinds.values())) > 1:
        text = ", ".join(f"{version} {'for pixels too' if most is None else f'for batches of {most}'}"
                         for version, most in sorted(kinds.items()))
        progress.say(f"{target.parent}: a server with --enable_batching batches every version here, and these differ: "
                     f"{text}; pixels of different sizes fail in a batch")


# A signature's function, and the inputs that it declares.
_Endpoint = tuple[Callable[..., signatures.Answer], Sequence[tf.TensorSpec]]


def _endpoints(model: servable.Segmenter, localizer: localization_maps.Localizer | None, spec: crf.CRFSpec | None,
               class_names: Sequence[str]) -> dict[str, _Endpoint]:
    endpoints: dict[str, _Endpoint] = {
        "serving_default": (signatures.serving_default(model), [signatures.IMAGES]),
        "serve_jpeg": (signatures.serve_jpeg(model, labels.palette(), class_names), [signatures.FILES])}
    if spec is not None:
        endpoints["serve_crf"] = signatures.serve_crf(model, spec), [signatures.IMAGES, signatures.ITERATIONS]
    if localizer is not None:
        endpoints["localization_maps"] = localization_maps.localization_maps(localizer), localizer.specs
    return endpoints


def _write_graph(directory: str, networks: Sequence[keras.Model], endpoints: Mapping[str, _Endpoint]) -> None:
    """Writes graph and weights; the inputs' declared shapes stand in the signatures alone, see `decoding`."""
    archive = keras.export.ExportArchive()
    for network in networks:
        archive.track(network)
    for name, (function, specs) in endpoints.items():
        archive.add_endpoint(name, function, [decoding.undeclared(spec) for spec in specs])
    archive.write_out(directory, verbose=False)
    graph_scan.declare(directory, {name: specs for name, (_, specs) in endpoints.items()})


def refuse(directory: str | pathlib.Path) -> None:
    """Raises UserError where `graph_scan.scan` finds something."""
    findings = graph_scan.scan(directory)
    if findings:
        raise UserError(f"{directory}: expected a graph that a stock server runs, found {'; '.join(findings[:5])}")


def _agreement(directory: pathlib.Path, model: servable.Segmenter, precision: str, applied: loading.Options,
               photographs: Sequence[np.ndarray]) -> dict[str, Any] | None:
    if not photographs:
        return None
    reference, *_ = loading.load_segmenter(directory, dataclasses.replace(applied, precision="float32"))
    return {"precision": precision, "images": len(photographs),
            "same_labels": loading.agreement(model, reference, photographs)}


def _next_version(run_dir: pathlib.Path, settings: dict[str, Any]) -> int:
    versions = sorted(int(path.name) for path in (run_dir / layout.SAVED_MODEL).glob("*") if path.name.isdecimal())
    same = [each for each in versions if _settings_of(run_dir / layout.SAVED_MODEL / str(each)) == settings]
    return same[-1] if same else max(versions, default=0) + 1


def _settings_of(target: pathlib.Path) -> dict[str, Any]:
    run = artifacts.read_run(target / model_card.DIRECTORY)
    return {} if run is None else run["settings"]


def _is_there(target: pathlib.Path, settings: dict[str, Any]) -> bool:
    if not target.exists():
        return False
    before = _settings_of(target)
    if before != settings:
        differing = sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key))
        raise UserError(f"{target}: expected no such version or one of the same settings, found one that differs in "
                        f"{', '.join(differing)}; give another --version")
    return True


def write_whole(target: pathlib.Path, build: Callable[[str], None]) -> None:
    """Calls `build(directory)` on a temporary directory beside `target`, then renames it to `target`.

    What a killed call has left beside it is removed.

    Args:
      target: a path that does not exist.
      build: writes everything into the directory it is given.

    Raises:
      UserError: another process is making it.
    """
    with lock.hold(target.parent / f".{target.name}.lock", str(target)):
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        try:
            build(temporary)
            os.chmod(temporary, 0o755)
            os.replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
