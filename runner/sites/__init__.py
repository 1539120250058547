"""Jobs on other machines: a thin layer above the engines that move them there.

On every node an ordinary `Supervisor` runs next to that node's container engine (`node`); a
cluster engine (`stdio`, `slurm`, `ray_engine`) moves one job's specification there and its events
back, as JSON lines and nothing else (`wire`); `remote` puts them into the caller's ordinary `Job`,
notices a node that is lost, and alone decides whether a job is tried again.
"""
