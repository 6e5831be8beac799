"""Native loops: numba kernels over flat Arrow buffers.

Every kernel takes a ``(data, offsets)`` pair from :func:`headwater.kernels.flat.flatten`, drops the GIL
and compiles on its first call (about a second each; later processes load the machine code from disk in
10-20 ms). Kernels know neither tables nor connections.
"""
