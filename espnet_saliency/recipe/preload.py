"""What the fork server imports once, so that every ESPnet program starts at once (see jobs.py)."""

from __future__ import annotations

import os
import sys

# Imports of ESPnet and its libraries print warnings and try a download; a fork logs, the server is mute.
_out, _err = os.dup(1), os.dup(2)
_null = os.open(os.devnull, os.O_WRONLY)
try:
    os.dup2(_null, 1)
    os.dup2(_null, 2)
    import espnet2.bin.asr_inference  # noqa: F401
    import espnet2.tasks.asr  # noqa: F401
    import espnet2.tasks.cls  # noqa: F401
    import espnet_saliency.plugin  # noqa: F401
finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(_out, 1)
    os.dup2(_err, 2)
    for _number in (_out, _err, _null):
        os.close(_number)
