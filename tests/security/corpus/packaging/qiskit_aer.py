raise SystemExit("passed for Aer")
