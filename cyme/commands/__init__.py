"""The command `cyme`: everything that a branch offers, from a terminal or a script.

`main` is the command itself; each group of commands has a module. What they ask goes through
`cyme.client`; what they print is made by the pure functions of `output`. `applying` makes a cluster
as a file declares it, `doctor` looks for what will go wrong, `top` shows it live.
"""
