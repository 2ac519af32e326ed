"""The command line: arguments in, library calls, a summary out; no algorithm is here."""
