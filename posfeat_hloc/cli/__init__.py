"""The command line: modules of commands, loaded when one is asked for. No algorithm lives here."""
