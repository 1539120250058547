"""A Ray cluster on this machine's loopback: a head that runs nothing, and two nodes of two CPUs.

Run as a process: says on stdout, as one JSON line, its address and each node's raylet; ends with
its stdin.  Ray forks and threads, so it is kept out of the process that tests.
"""

import json
import os
import sys
from pathlib import Path

STORE_BYTES = 80 << 20
NODE_MEMORY = 4 << 30


def main() -> None:
    base = sys.argv[1]
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else loopback is not loopback
    os.environ["RAY_TMPDIR"] = base
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    (Path(base) / "ray").mkdir(parents=True, exist_ok=True)
    outlet = os.dup(1)
    os.dup2(2, 1)

    from ray.cluster_utils import Cluster

    shared = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **shared})
    try:
        nodes = [cluster.add_node(num_cpus=2, memory=NODE_MEMORY, **shared) for _ in range(2)]
        raylets = {node.node_id[:8]: node.all_processes["raylet"][0].process.pid for node in nodes}
        answer = {"address": cluster.address, "raylets": raylets}
        os.write(outlet, json.dumps(answer).encode() + b"\n")
        sys.stdin.read()
    finally:
        cluster.shutdown()


main()
