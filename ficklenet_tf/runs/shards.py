"""A stage's images cut into shards for a fleet: independent, repeatable, and each with a note of what it has done.

Shard i of n has every n-th image of the split from the i-th on. The files of an image are named by its id and
do not depend on the shard, so a shard may be run anywhere, again, or beside others on one shared directory.
`<stage>/manifest/<i>-of-<n>.json` appears when a shard is finished.
"""

import pathlib
import time
from collections.abc import Sequence

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout

Shard = tuple[int, int]  # (index, number of shards)
WHOLE: Shard = (0, 1)


def indices_of(shard: Shard, count: int) -> range:
    """Returns the indices of a shard's images.

    Args:
      shard: (index, number of shards).
      count: number of images in the split.

    Raises:
      UserError: there is no such shard.
    """
    index, num_shards = shard
    if not 0 <= index < num_shards:
        raise UserError(f"shard_index: expected 0 to {num_shards - 1} of {num_shards} shards, found {index}")
    return range(index, count, num_shards)


def check_complete(directory: str | pathlib.Path, shard: Shard, missing: Sequence[str]) -> None:
    """Checks, before the call for the whole split, that the shards which were at work have done everything.

    Args:
      directory: the stage's.
      shard: as in `indices_of`; only the call for the whole split is checked.
      missing: ids of the images whose files are not there.

    Raises:
      UserError: images are missing; names the shards without a manifest.
    """
    paths = sorted((pathlib.Path(directory) / layout.MANIFESTS).glob("*.json"))
    manifests = [artifacts.read_json(path) for path in paths]
    if shard != WHOLE or not manifests or not missing:
        return
    count = max(manifest["shards"] for manifest in manifests)
    unfinished = sorted(set(range(count)) - {m["shard"] for m in manifests if m["shards"] == count})
    reason = (f"shards {', '.join(map(str, unfinished))} of {count} have not finished" if unfinished
              else "files were removed")
    raise UserError(f"{directory}: expected the files of all images, {len(missing)} are missing, the first "
                    f"{missing[0]}: {reason}. Run them again, or remove {directory}/{layout.MANIFESTS} to make the "
                    "rest here")


def write_manifest(directory: str | pathlib.Path, shard: Shard, image_ids: Sequence[str], num_made: int,
                   started: float) -> None:
    """Notes that a shard is finished; nothing for the whole split, whose run.json says so.

    Args:
      directory: the stage's.
      shard: as in `indices_of`.
      image_ids: of the shard.
      num_made: how many of them this call made.
      started: `time.monotonic()` when it began.
    """
    if shard == WHOLE:
        return
    artifacts.write_json(pathlib.Path(directory) / layout.MANIFESTS / f"{shard[0]}-of-{shard[1]}.json", {
        "shard": shard[0], "shards": shard[1], "images": list(image_ids), "made": num_made,
        "seconds": round(time.monotonic() - started, 3)})
