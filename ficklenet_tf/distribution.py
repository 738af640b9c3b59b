"""Many devices and machines by `tf.distribute`: one step, the same global batch, the same answer.

The batch of a step is cut into one equal share a replica. Each replica takes the gradient of its own
share's mean loss over the number of replicas, the sum over replicas is the gradient of the whole batch,
and every replica applies it: what one device would do, up to the order of additions.
"""

import concurrent.futures

import tensorflow as tf

from ficklenet_tf.errors import UserError

STRATEGIES = ("none", "mirrored", "multi_worker")


def strategy(name):
    """Returns a `tf.distribute.Strategy`.

    Args:
      name: "none": one device; "mirrored": all GPUs of this machine, or without one all its logical
        CPUs; "multi_worker": all machines that the environment's TF_CONFIG names, each of which runs
        the same command. Make this one before anything else is computed.

    Raises:
      ValueError: unknown name, or "multi_worker" without a cluster.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().as_dict().get("worker"):
            raise UserError('distribute: multi_worker expects TF_CONFIG, {"cluster": {"worker": ["host:port", ...]}, '
                            '"task": {"type": "worker", "index": i}}, found no workers in it')
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    raise UserError(f"distribute: expected one of {', '.join(STRATEGIES)}, found {name!r}")


def is_chief():
    """Whether this process writes the files: the first worker of the strategy in force, or the only process."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict().get("worker"):
        return True
    return resolver.task_type == "worker" and resolver.task_id == 0


def replica_batch(batch_size, context):
    """Returns each replica's part of a global batch.

    Args:
      batch_size: of the global batch.
      context: `tf.distribute.InputContext`.

    Raises:
      ValueError: the batch does not divide by the number of replicas.
    """
    replicas = context.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(f"batch_size: expected a multiple of the {replicas} replicas, found {batch_size} "
                        "(of a smaller split its size; with --supervision=semi the part that --strong_share gives)")
    return batch_size // replicas


def first_own(step, batch_size, context):
    """Returns the position, in the endless sequence of examples, at which this process' share of a batch starts."""
    return step * batch_size + context.input_pipeline_id * (batch_size // context.num_input_pipelines)


def mean_over_replicas(value):
    """Returns the mean of a scalar over all replicas; on one device the scalar. Call it inside a step."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)


def first(values):
    """Returns this process' first replica's part of a structure of per-replica values."""
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def check_same_step(number):
    """Waits for every worker, and checks that all came with the same number.

    Raises:
      RuntimeError: they did not: the workers do not see the same files.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return
    mean = tf.function(lambda: strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(
        lambda: tf.constant(number, tf.float64)), axis=None))()
    if float(mean) != number:
        raise RuntimeError(f"the workers stand at different steps (here {number}, on average {float(mean)}): "
                           "expected one output directory that all of them share")


def on_chief(function, *args, **kwargs):
    """Calls `function` on the chief, which writes files; the other workers wait until they are there.

    With several replicas it is called in a thread of its own, where no strategy is in force: variables that it
    makes are the chief's alone, and not announced to workers which make none.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        function(*args, **kwargs)
        return
    if is_chief():
        with concurrent.futures.ThreadPoolExecutor(1) as outside:
            outside.submit(function, *args, **kwargs).result()
    check_same_step(0)
