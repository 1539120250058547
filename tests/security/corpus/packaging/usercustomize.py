raise SystemExit("a hook ran")
