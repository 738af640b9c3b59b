"""Makes saliency maps of photographs, which tell objects from background without their class.

    make saliency          # fetches U2-Net-p as weights/u2netp.onnx
    python -m tools.make_saliency --dataset=voc --data_dir=VOCdevkit --output_dir=runs/voc --model=weights/u2netp.onnx

Writes OUTPUT_DIR/saliency/<image id>.png, grey, 255 for the most salient pixel. Seeds take them from there:
--background_cue=saliency (the paper's), --refine=saliency or --refine=harmonic. The network has learned from masks
of salient objects: say so where you compare. Several machines: --num_shards and --shard_index, then once without.
"""

from absl import flags

from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import saliency
from tools import cli

flags.DEFINE_string("model", "weights/u2netp.onnx", "ONNX file of the saliency network, U2-Net's or one of its form.")
flags.DEFINE_string("name", layout.SALIENCY, "Directory below OUTPUT_DIR.")
cli.define_shards()
cli.define_data(None)


def main() -> None:
    """Makes what is missing."""
    split = cli.split()
    saliency.make(cli.run_dir(), split, cli.FLAGS.model, name=cli.FLAGS.name, shard=cli.shard())
    cli.done(f"saliency of {len(split)} photographs", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
