"""For all tests: one thread a process. pytest runs two processes, and torch's threads would wait for each other on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
