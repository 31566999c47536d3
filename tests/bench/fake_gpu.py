"""A GPU without one: a plugin for pytest (`-p tests.bench.fake_gpu`) that puts a device behind the name `cupy`.

It queues products and does them when it is waited for, each in BUSY_S at least, as a device does. The kernel
`cublas` then runs as it is written.
"""

import gemm
from tests.stand_in import memory, modules

BUSY_S = 0.002


def pytest_configure():
    """Only where it is loaded as a plugin: importing this file changes nothing."""
    modules.put()
    memory.QUEUE.slow = BUSY_S
    gemm.find("cublas").__dict__["reason"] = None  # what its probe would have found
