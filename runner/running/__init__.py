"""The execution of a job, alone or in a session: from the queue through a sandbox to a verdict."""
