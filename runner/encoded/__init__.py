"""The content of encoded values, read as plain data: no object of any class is ever built."""
