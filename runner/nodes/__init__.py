"""Code that runs on or next to a cluster's node: a supervisor there, and Ray's driver."""
