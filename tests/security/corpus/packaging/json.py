raise SystemExit("passed for the library")
