"""The command line: one file a command, each of them thin.

`main` registers them and turns errors into messages and exit codes. Nothing imports this folder.
"""
