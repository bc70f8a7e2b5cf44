"""The budgets of the design, measured: `python -m benchmarks` prints each as a ratio with its verdict.

Rules:

* Both sides of a ratio run in one invocation, on the same machine, in turns (A, B, B, A, …); the figure is the median
  of the turns. An absolute number says something about the machine, a ratio about the code.
* The gateway under test is `ownstudio serve` itself, with its default settings: key check, access log, metrics,
  rendering, tokenizing, usage. Only the engine's worker is replaced where the engine must not be the bottleneck.
* Every loop is bounded in count and in time. Loopback and Unix sockets only.
"""
