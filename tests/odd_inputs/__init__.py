"""People's own folders, files, settings and machines: what they hold, and what must come of it.

The data are generated. A module is a group of kinds; a test asserts what its user needs to get or
to be told, and leaves the words open.
"""
