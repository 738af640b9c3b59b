"""Times what is served against the bare network, in one run.

    python -m tools.benchmark_export --output_dir=runs/demo --version=1 photo.jpg

Prints for each signature latency (p50, p99), photographs per second, and the share that it costs over the bare Keras
call on photographs already warped; the size of the export and the time to load it. Loads the version as a server
does. The calls take turns, so that other work on the machine slows all of them alike.
"""

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli, define

define.run_dir()
define.imports()
flags.DEFINE_integer("version", 1, "The version to time.", lower_bound=1, upper_bound=2**63 - 1)
flags.DEFINE_integer("calls", 20, "How often each signature is called on each photograph.", lower_bound=1)
flags.DEFINE_integer("iterations", 10, "Iterations of the CRF in serve_crf.", lower_bound=0, upper_bound=100)
flags.DEFINE_integer("num_maps", 200, "Maps that localization_maps draws for one photograph.", lower_bound=1,
                     upper_bound=1000)


def main(paths: list[str]) -> None:
    """Times the version that the flags name on the photographs of the command line."""
    from tools.benchmarks import exported

    if not paths:
        raise UserError("expected photographs after the flags, found none")
    flags_ = cli.FLAGS
    print(exported.run(flags_.output_dir, flags_.version, paths, flags_.calls, flags_.iterations, flags_.num_maps))


if __name__ == "__main__":
    cli.start(main, arguments=True)
