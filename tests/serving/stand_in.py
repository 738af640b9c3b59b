"""The stand-in server as a process of its own, which can be killed: python -m tests.serving.stand_in BASE PORT."""

import sys
import threading

from tests.serving import servers


def main(base, port):
    """Serves the versions below `base` as the README's command does, until it is killed."""
    versions = servers.Versions(base_paths={"/models/ficklenet": base}, allow_labels=True)
    with servers.polling(versions, f"{base}/models.config", 0.5), \
            servers.serve_grpc(versions, port=int(port), threads=64) as (address, _):
        print(address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
