"""Pictures of jobs: their counts and the numbers in their messages, in files and in notebooks."""
