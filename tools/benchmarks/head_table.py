"""Table 4: naive, expanded and contracted head, by the benchmark's own work."""

from ficklenet_tf.experiments import paper
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.tables import Row, Table
from tools.benchmarks import head, localization, measure

_TITLES = {"naive": "naive: window by window", "expanded": "expansion, the paper's", "contracted": "contracted, ours"}


def table4(scale: str = "full", rounds: int = 5) -> Table:
    """Times one training image of the head and the extraction of one image, and takes the memory in fresh processes.

    Args:
      scale: a key of `measure.SIZES`.
      rounds: timings per number; the table gives their mean and deviation.

    Returns:
      A `tables.Table`.
    """
    size = measure.SIZES[scale]
    steps = measure.compare({form: head.head_work(form, scale) for form in head.FORMS}, rounds)
    maps = measure.compare({form: head.one_map_work(form, scale) for form in ("naive", "expanded")} | {
        "contracted": localization.maps_work("closed_form", size.num_maps, scale, tags=1)}, rounds)
    rows: dict[str, Row] = {}
    for form in head.FORMS:
        peak = measure.peak_memory("tools.benchmarks.head:head_work", {"form": form, "scale": scale})["peak_mib"]
        times = 1 if form == "contracted" else size.num_maps
        published = zip(("paper: s per iteration", "paper: s per image", "paper: memory, GB"),
                        paper.TABLE4.get(form, (None, None, None)), strict=True)
        rows[form] = {
            "head": _TITLES[form], "s per training image": Measured(steps[form].seconds, 1, 4),
            f"s per image of extraction, N = {size.num_maps}": Measured(
                tuple(seconds * times for seconds in maps[form].seconds), 1, 3),
            "memory, MiB": Measured((peak,), 1, 1), **dict(published)}
    columns = [key for key, cell in rows["naive"].items() if isinstance(cell, Measured)]
    claims = [Claim(f"{high} above {low}, {column}", rows[high][column], rows[low][column])
              for column, pairs in zip(columns, ((("naive", "expanded"), ("expanded", "contracted")),) * 2 + (
                  (("expanded", "naive"), ("expanded", "contracted")),), strict=True) for high, low in pairs]
    return Table("table4", "Table 4: run time and memory", tuple(rows.values()), tuple(claims), (
        f"The head alone on {size.grid} x {size.grid} x {size.channels} features, kernel {size.kernel_size}, batch 1, "
        f"forward and backward; {rounds} rounds, mean ± deviation, seconds. Extraction: one tag; of naive and "
        f"expanded one map by the tape was timed and multiplied by {size.num_maps}; contracted: the closed form, all "
        "maps.",
        "The paper's columns: its own machine, the whole network, batch 10."))
