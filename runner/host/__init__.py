"""Services of this host for all rooms above: processes, threads, files, interruptible waiting."""
