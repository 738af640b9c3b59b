"""What a person runs to serve: the exporter and a client."""

try:
    from ficklenet_tf.runs import quiet
except ImportError:  # the client, copied out with transport.py alone
    pass
else:
    quiet.load_tensorflow()
