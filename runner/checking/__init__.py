"""`qrunner check`: the cases of programs, their results, and the reports."""
