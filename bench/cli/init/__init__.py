"""`bench init`: look at a folder of images and write a suite for it, with reasons in comments."""

from bench.cli.init.write import WrittenSuite, write_suite

__all__ = ["WrittenSuite", "write_suite"]
