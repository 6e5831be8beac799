"""Self-training with verifiers (ReST-EM, arXiv 2312.06585): sample, verify, keep what is right, tune the
base.

Problems, every round's samples, what was kept of them and the results are tables; a stage that is finished is
a version of one, and is not done again.
"""
