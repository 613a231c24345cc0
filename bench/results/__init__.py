"""Everything behind the numbers: from the files of a run alone, without torch.

`folder` writes and reads the files, `grid` says what was compared, `analysis` what can be claimed,
`plots` and `report` show it, `trackers` hand it to others.
"""
