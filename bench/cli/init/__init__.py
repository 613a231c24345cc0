"""`bench init`: look at a folder of images and write a suite for it, with reasons in comments.

`command` is what the command line calls, `write` what it does.
"""
