"""A Ray cluster on loopback: a head and more nodes, as processes that end with this one.

It prints the address. On stdin, the line "add" adds a node, "add FOLDER" one with the kit in that folder, and "kill"
kills the node that was added last; each is answered with a line. The end of stdin ends the cluster. The environment is
`environment(folder)`.
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

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    print(cluster.address, flush=True)
    nodes = []
    for line in sys.stdin:
        command, _, folder = line.strip().partition(" ")
        if command == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            nodes.append(cluster.add_node(num_cpus=2, **({"env_vars": {"PYTHONPATH": folder}} if folder else {})))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_TMPDIR", "/tmp")  # noqa: S108 - the path of a socket is short
    main()
