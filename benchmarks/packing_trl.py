"""TRL's packing of an Arrow file of closed documents; ``packing.py --trl PYTHON`` runs it in TRL's own venv.

    PYTHON benchmarks/packing_trl.py DOCUMENTS.arrow STRATEGY LENGTH

Prints JSON: rows, seconds of the best of three runs after one that warms up, and versions.
"""

import json
import os
import sys
import time

os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import datasets
import pyarrow as pa
import trl
from trl.data_utils import pack_dataset


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    path, strategy, length = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with pa.memory_map(path) as source:
        data = datasets.Dataset(pa.ipc.open_file(source).read_all())
        least = float("inf")
        for run in range(4):
            started = time.process_time()
            packed = pack_dataset(
                data, length, strategy, {"keep_in_memory": True, "load_from_cache_file": False}
            )
            if run:
                least = min(least, time.process_time() - started)
        versions = {"trl": trl.__version__, "datasets": datasets.__version__, "pyarrow": pa.__version__}
        print(json.dumps({"rows": len(packed), "seconds": least, "versions": versions}))


if __name__ == "__main__":
    main()
