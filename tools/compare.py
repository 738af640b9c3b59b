r"""Several systems on one's own photographs: seeds and masks side by side, and which to take, without masks.

    python -m tools.compare --systems=ficklenet,deterministic,mdc --dataset=folder --data_dir=mine --preset=cpu \
        --weights=imagenet --output_dir=runs/mine

Trains each system, predicts the held-out photographs, and writes OUTPUT_DIR/comparison.html and comparison.json: how
well each system's masks agree with the others' vote, and between which systems these photographs do not decide. What
systems share is made once; with masks of held-out photographs their mIoU stands beside. Started again it goes on where
it stopped, and with more --systems it makes those that are new. What each system is: docs/systems.md.
"""

from absl import flags

from ficklenet_tf.experiments import systems
from tools import cli, define, words

flags.DEFINE_list("systems", ["ficklenet", "deterministic", "sec", "em_adapt", "affinitynet"], "What to compare: "
                  f"two or more of {', '.join(systems.SYSTEMS)}; or all.")
flags.register_validator("systems", lambda names: names == ["all"] or len(set(names)) == len(names) > 1 and set(
    names) <= set(systems.SYSTEMS), f"expected all, or two or more of {', '.join(systems.SYSTEMS)}, each once")
flags.DEFINE_enum("crf", "dsrg", words.CRFS, "Dense CRF's parameters for the masks that are compared.")
flags.DEFINE_integer("rows", 8, "How many photographs of each split the page shows.", lower_bound=1)
define.whole_job()


def main() -> None:
    """Makes what is not there yet, and the page."""
    from tools import comparison

    comparison.run()


if __name__ == "__main__":
    cli.start(main)
