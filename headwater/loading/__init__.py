"""What :mod:`headwater.streaming` is made of: which rows, read from where, laid out how, handed over when.

schedule     which sequences a step takes, by arithmetic
rows         the reader of a packed table
retry        patience with an object store, and errors that name the sequences
cache        blocks of an object store on a local disk, shared by a node's ranks
layout       from tokens and spans to the tensors of a batch
read_ahead   threads
position     what a state may be resumed over
device       asynchronous copies to an accelerator
"""
