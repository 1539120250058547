"""What this host lends to all rooms above: processes, threads, files, waiting that can be ended."""
