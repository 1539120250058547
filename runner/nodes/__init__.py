"""What runs on a cluster's node, or in front of one: a supervisor there, and Ray's driver."""
