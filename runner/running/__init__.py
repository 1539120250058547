"""A job on its way: from the queue through a sandbox to its verdict, alone or in a session."""
