"""`cyme apply`: a cluster as a file declares it.

`files` reads the file, `world` asks what there is, `plan` (pure) says what has to be done, and
`command` prints that and has it done.
"""
