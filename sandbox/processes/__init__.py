"""The processes of a sandbox: the first one, the worker, a session's parent; their protection."""
