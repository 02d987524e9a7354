"""A Ray cluster on loopback: a head and a second node, as processes that end with this one.

It prints the address. The line "kill" on stdin kills the second node; the end of stdin ends the cluster. An argument is
a folder with another version of the kit for the second node. The environment is `environment(folder)`.
"""

import os
import sys


def environment(folder):
    """Return the variables of all processes of a cluster whose files are in a folder with a short path."""
    return {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray uses 127.0.0.1, on Linux too
        "RAY_AUTH_MODE": "disabled",  # otherwise a token in the home folder counts
        "RAY_worker_niceness": "0",  # as of the processes of one machine
    }


def main():
    from ray.cluster_utils import Cluster

    other = {"env_vars": {"PYTHONPATH": sys.argv[1]}} if sys.argv[1:] else {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2, **other)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            cluster.remove_node(node, allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_TMPDIR", "/tmp")  # noqa: S108 - the path of a socket is short
    main()
