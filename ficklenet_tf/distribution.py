"""Many devices and machines by `tf.distribute`: one step, the same global batch, the same answer.

The batch of a step is cut into equal shares, one per replica. Each replica takes the gradient of its own
share's mean loss, divided by the number of replicas. The sum over replicas is the gradient of the whole batch,
and every replica applies it: what one device would do, up to the order of additions.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any, ParamSpec

import tensorflow as tf

from ficklenet_tf.errors import UserError

STRATEGIES = ("none", "mirrored", "multi_worker")
_P = ParamSpec("_P")


def strategy(name: str) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.Strategy`.

    Args:
      name: "none": one device; "mirrored": all GPUs of this machine, or without one all its logical
        CPUs; "multi_worker": all machines that the environment's TF_CONFIG names, each of which runs
        the same command. Make this strategy before anything else is computed.

    Raises:
      UserError: unknown name, or "multi_worker" without a cluster.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        try:
            workers = resolver.cluster_spec().as_dict().get("worker")
        except ValueError as error:
            raise UserError(f"distribute: expected JSON in TF_CONFIG, found {error}") from error
        if not workers:
            raise UserError('distribute: multi_worker expects TF_CONFIG, {"cluster": {"worker": ["host:port", ...]}, '
                            '"task": {"type": "worker", "index": i}}, found no workers in it')
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    raise UserError(f"distribute: expected one of {', '.join(STRATEGIES)}, found {name!r}")


def is_chief() -> bool:
    """Whether this process writes the files: the first worker of the strategy in force, or the only process."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return not has_workers() or (resolver.task_type == "worker" and resolver.task_id == 0)


def has_workers() -> bool:
    """Whether the strategy in force is of a cluster, each of whose processes runs the same command."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return resolver is not None and bool(resolver.cluster_spec().as_dict().get("worker"))


def replica_batch(batch_size: int, context: tf.distribute.InputContext) -> int:
    """Returns the number of examples in each replica's part of a global batch.

    Args:
      batch_size: number of examples in the global batch.
      context: `tf.distribute.InputContext`.

    Raises:
      UserError: the batch does not divide by the number of replicas.
    """
    num_replicas = context.num_replicas_in_sync
    if batch_size % num_replicas:
        raise UserError(f"batch_size: expected a multiple of the {num_replicas} replicas, found {batch_size} "
                        "(of a smaller split its size; with --supervision=semi the part that --strong_share gives)")
    return batch_size // num_replicas


def first_own(step: int, batch_size: int, context: tf.distribute.InputContext) -> int:
    """Returns the position, in the endless sequence of examples, at which this process' share of a batch starts."""
    return step * batch_size + context.input_pipeline_id * (batch_size // context.num_input_pipelines)


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the mean of a scalar over all replicas; on one device the scalar. Call it inside a step."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)


def first(values: Any) -> Any:
    """Returns this process' first replica's part of a structure of per-replica values."""
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def check_same_step(step: int) -> None:
    """Waits for every worker, and checks that all came with the same step.

    Raises:
      RuntimeError: they did not: the workers do not see the same files.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return
    mean = tf.function(lambda: strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(
        lambda: tf.constant(step, tf.float64)), axis=None), autograph=False)()
    if float(mean) != step:
        raise RuntimeError(f"the workers stand at different steps (here {step}, on average {float(mean)}): "
                           "expected one output directory that all of them share")


def on_chief(function: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Calls `function` on the chief, which writes files; the other workers wait until the files are there.

    With several replicas it is called in a thread of its own, where no strategy is in force: the variables that it
    makes are the chief's alone, and are not announced to the workers, which make none.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        function(*args, **kwargs)
        return
    if is_chief():
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            executor.submit(function, *args, **kwargs).result()
    check_same_step(0)
