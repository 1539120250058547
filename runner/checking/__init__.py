"""`qrunner check`: the cases of programs, what came of them, and the reports on it."""
