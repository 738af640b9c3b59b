"""A stage's images cut into shards for a fleet: independent, repeatable, and each with a note of what it has done.

Shard i of n has every n-th image of the split from the i-th on. The files of an image are named by its id and
do not depend on the shard, so a shard may be run anywhere, again, or beside others on one shared directory.
`<stage>/manifest/<i>-of-<n>.json` appears when a shard is finished.
"""

import pathlib
import time

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

WHOLE = (0, 1)


def indices_of(shard, count):
    """Returns the indices of a shard's images.

    Args:
      shard: (index, number of shards).
      count: of images in the split.

    Raises:
      ValueError: there is no such shard.
    """
    index, shards = shard
    if not 0 <= index < shards:
        raise UserError(f"shard_index: expected 0 to {shards - 1} of {shards} shards, found {index}")
    return range(index, count, shards)


def check_complete(directory, shard, missing):
    """Before the call for the whole split: where shards were at work, they must have done everything.

    Args:
      directory: the stage's.
      shard: as in `indices_of`; checked is the call without shards.
      missing: ids of the images whose files are not there.

    Raises:
      ValueError: images are missing; names the shards without a manifest.
    """
    manifests = [artifacts.read_json(path) for path in sorted((pathlib.Path(directory) / "manifest").glob("*.json"))]
    if shard != WHOLE or not manifests or not missing:
        return
    count = max(manifest["shards"] for manifest in manifests)
    open_ = sorted(set(range(count)) - {m["shard"] for m in manifests if m["shards"] == count})
    which = f"shards {', '.join(map(str, open_))} of {count} have not finished" if open_ else "files were removed"
    raise UserError(f"{directory}: expected the files of all images, {len(missing)} are missing, the first "
                    f"{missing[0]}: {which}. Run them again, or remove {directory}/manifest to make the rest here")


def write_manifest(directory, shard, image_ids, made, started):
    """Notes that a shard is finished; nothing for the whole split, whose run.json says so.

    Args:
      directory: the stage's.
      shard: as in `indices_of`.
      image_ids: of the shard.
      made: how many of them this call made.
      started: `time.monotonic()` when it began.
    """
    if shard == WHOLE:
        return
    artifacts.write_json(pathlib.Path(directory) / "manifest" / f"{shard[0]}-of-{shard[1]}.json", {
        "shard": shard[0], "shards": shard[1], "images": list(image_ids), "made": made,
        "seconds": round(time.monotonic() - started, 3)})
