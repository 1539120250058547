open("/built-by-the-program", "w")
