"""The command line: a module for each command, loaded when it is asked for. No algorithm lives here."""
