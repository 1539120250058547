"""Sites: where a supervisor's jobs run, on this machine or on the nodes of a cluster.

On every node of a cluster an ordinary `Supervisor` runs next to that node's container engine
(`runner.nodes.node`).  A cluster engine (`stdio`, `slurm`, `ray`) carries one job's specification
to a node and its events back, as JSON lines and nothing else (`wire`).  `remote` copies the events
into the caller's ordinary `Job`, notices lost nodes, and alone decides if a job is run again.
"""
