"""What a person runs to serve: the exporter, a client, a benchmark."""

try:
    from ficklenet_tf.runs import quiet
except ImportError:  # the client, copied out with transport.py alone
    pass
else:
    quiet.load_tensorflow()
