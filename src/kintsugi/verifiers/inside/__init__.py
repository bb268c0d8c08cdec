"""Code that runs within a sandbox, where this folder and Python's standard library are all there is to import.

`script` runs a program on its stdin. `program` loads one and answers requests: call this function, what is
that attribute. `tests` runs tests, in a sandbox of its own, where the program's names stand for proxies that
send such requests. Requests hold arguments and replies hold values, as JSON; what a test expects and what
comes of it stay on the tests' side, where no code of the program ever runs. `wire` is what both sides know of
the line, `proxies` what stands for the program's objects, `rewriting` how tests are read, `suite` the verdict.
"""
