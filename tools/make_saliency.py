"""Makes saliency maps of photographs, which tell objects from background without their class.

    make saliency          # fetches U2-Net-p as weights/u2netp.onnx
    python -m tools.make_saliency --dataset=voc --data_dir=VOCdevkit --output_dir=runs/voc

Writes OUTPUT_DIR/saliency/<image id>.png, grey, 255 for the most salient pixel. Seeds take them from there:
--background_cue=saliency (the paper's), --refine=saliency or --refine=harmonic. The network has learned from masks
of salient objects: say so where you compare. Several machines: --num_shards and --shard_index, then once without.

    python -m tools.make_saliency --dataset=voc --data_dir=VOCdevkit --output_dir=runs/voc --closer=maps

begins with those and looks again at each region that the maps in OUTPUT_DIR/maps/ point at; it writes
OUTPUT_DIR/saliency_closer/, which seeds take by --saliency_dir=OUTPUT_DIR/saliency_closer.
"""

from absl import flags

from ficklenet_tf.runs import layout
from tools import cli, define

flags.DEFINE_string("saliency_model", "weights/u2netp.onnx", define.SALIENCY_MODEL)
flags.DEFINE_string("closer", None, "Directory below OUTPUT_DIR of maps: look again where they point.")
define.name(None, "Directory below OUTPUT_DIR (default: saliency; of --closer=maps saliency_closer).")
define.shards()
define.data(None)


def main() -> None:
    """Makes what is missing."""
    from ficklenet_tf.seeds import saliency

    saliency.check_model(cli.FLAGS.saliency_model)
    split, maps = cli.split(), cli.FLAGS.closer
    name = cli.FLAGS.name or (layout.closer_of(maps) if maps else layout.SALIENCY)
    cli.restart_stages(name)
    if maps:
        saliency.make_closer(cli.run_dir(), split, cli.FLAGS.saliency_model, maps=maps, name=name, shard=cli.shard())
    else:
        saliency.make(cli.run_dir(), split, cli.FLAGS.saliency_model, name=name, shard=cli.shard())
    cli.done(f"saliency of {len(split)} photographs", cli.run_dir() / name)


if __name__ == "__main__":
    cli.start(main)
