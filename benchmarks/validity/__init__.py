"""How often would an analysis claim what is not so, and how often would it miss what is?

Simulated runs, from models none of which is the model behind the test, go through the functions of
`bench.results.analysis.crossed`. For each kind of run (a cell) are counted

- false claims: runs in which any pair of equals is told apart, or the worse called better, by p
  corrected for all pairs (Bonferroni). At most 5 % are wanted, and the upper end of the 95 %
  interval of the rate at most 7 %;
- power: runs in which a given true difference is claimed;
- wrong "as good": runs in which the corrected interval of any pair lies within the margin though
  the truth does not;
- coverage: the 95 % intervals that hold the truth, uncorrected;

and false claims and power also for two other tests: signs flipped over seeds, and the single number
of degrees of freedom of Hillis (2007).

    python -m benchmarks.validity --quick
    python -m benchmarks.validity --out campaign.csv
    python -m benchmarks.validity --cell equal/heavy --runs 20000
"""
